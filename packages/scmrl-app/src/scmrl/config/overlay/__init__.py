"""Build nested specs from files and dotted options, as in `load(RunSpec, ["--train.epochs", "20"])`.

A spec is a pydantic model whose fields are values or further specs. Every value has a field path, such as
`train.epochs`, and every field path is an option. Data flow from the command line to the spec:

    tokens    --options-->  settings, each a value for one field path with its source
    a file    --files---->  settings, each with its line
    settings  --merge---->  nested values: the spec's own, then `defaults`, then files, then options
    values    --pydantic->  the spec, or an `OptionError` that lists all faults

The modules, each of which imports only those above it:

    annotations   types and values as text: `int ≥ 1`, `path | none`, `a,b`
    field_types   what is allowed at a field path
    settings      a value for a field path, and nested values as a list of settings
    help          all options of a spec, and tables of them
    faults        what is wrong and what is allowed, in terms of options
    options       command line tokens to settings
    files         YAML and JSON files to settings
    merge         settings to nested values, and these to a spec

Why not cyclopts: docs/decisions.md#the-command-line-has-its-own-option-reader.
"""

from scmrl.config.overlay.faults import OptionError
from scmrl.config.overlay.help import OptionHelp, help_table, kinds_table, options_about, options_of, panels_of
from scmrl.config.overlay.merge import load

__all__ = ["OptionError", "OptionHelp", "help_table", "kinds_table", "load", "options_about", "options_of", "panels_of"]
