"""Check and print specs from a shell: `python -m snn_fusion check model.yaml`."""

from __future__ import annotations

import argparse
import json
import sys

from snn_fusion.specs.files import json_schema, load_spec, to_yaml
from snn_fusion.specs.presets import PRESETS


def main() -> int:
    """Run the command in the arguments and return the exit code; 1 if a file is not a model's spec."""
    parser = argparse.ArgumentParser("python -m snn_fusion", description="Check and print the specs of models.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("schema", help="print the JSON schema of model specs, for an editor")
    check = commands.add_parser("check", help="report all errors in a model's spec file")
    check.add_argument("file", help="a YAML or JSON file")
    show = commands.add_parser("show", help="print a model's spec as YAML, with every default")
    show.add_argument("file", help=f"a YAML or JSON file, or a preset: {', '.join(PRESETS)}")
    arguments = parser.parse_args()
    if arguments.command == "schema":
        print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
        return 0
    try:
        use_preset = arguments.command == "show" and arguments.file in PRESETS
        spec = PRESETS[arguments.file] if use_preset else load_spec(arguments.file)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    if arguments.command == "show":
        print(to_yaml(spec), end="")
    else:
        print(f"{arguments.file} is a model of {', '.join(spec.encoders)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
