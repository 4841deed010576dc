"""Fill a tree of specs from files and dotted options, as in `load(RunSpec, ["--train.epochs", "20"])`.

A spec is a pydantic model whose fields are values or further specs. Every value in the tree has a place, such as
`train.epochs`, and every place is an option. From the command line to the spec, data takes this way:

    tokens    --options-->  settings, each a value for one place that knows its source
    a file    --files---->  settings, each of which knows its line
    settings  --merge---->  a tree of nested values: the spec's own, then `defaults`, then files, then options
    tree      --pydantic->  the spec, or an `OptionError` that tells all faults together

The modules, each of which imports only those above it:

    annotations   types and values in words: `int ≥ 1`, `path | none`, `a,b`
    shape         what may stand at a place of the tree
    settings      a value for a place, and nested values as a list of them
    help          every option of a spec, and a table of them to show
    faults        what is wrong and what would be right, in the words of the options
    options       tokens of the command line into settings
    files         YAML and JSON files into settings
    merge         settings into a tree, and the tree into a spec
"""

from scmrl.overlay.faults import OptionError
from scmrl.overlay.help import OptionHelp, describe, help_table, kinds_table, options_about, panels_of
from scmrl.overlay.merge import load

__all__ = ["OptionError", "OptionHelp", "describe", "help_table", "kinds_table", "load", "options_about", "panels_of"]
