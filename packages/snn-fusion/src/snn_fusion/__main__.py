"""Look at specs from a shell: `python -m snn_fusion check model.yaml`."""

from __future__ import annotations

import argparse
import json
import sys

from snn_fusion.specs.files import json_schema, load_spec, to_yaml
from snn_fusion.specs.presets import PRESETS


def main() -> int:
    """Run the command that the arguments ask for; 1 is a file that is not a model's spec."""
    parser = argparse.ArgumentParser("python -m snn_fusion", description="Look at the specs of models.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("schema", help="print the JSON schema of a model's file, for an editor")
    check = commands.add_parser("check", help="tell everything that is wrong with a model's file")
    check.add_argument("file", help="a YAML or JSON file")
    show = commands.add_parser("show", help="print a model's spec as YAML, with every default")
    show.add_argument("file", help=f"a YAML or JSON file, or a preset: {', '.join(PRESETS)}")
    given = parser.parse_args()
    if given.command == "schema":
        print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
        return 0
    try:
        spec = PRESETS[given.file] if given.command == "show" and given.file in PRESETS else load_spec(given.file)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    if given.command == "show":
        print(to_yaml(spec), end="")
    else:
        print(f"{given.file} is a model of {', '.join(spec.encoders)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
