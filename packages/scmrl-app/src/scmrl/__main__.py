"""`python -m scmrl` is the command `scmrl`."""

from scmrl.cli import main

main()
