"""Read YAML and JSON files into settings.

What is not of its format is a fault with its line and column; whether a name exists and a value fits is left to those
who put the settings into the tree. `experiment.json` of a run is a file of settings, too: its checksum is left out, and
not compared, since whoever begins another run from a copy may edit it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

from scmrl.overlay.settings import Setting, settings_of
from scmrl.overlay.shape import Shape

ENDINGS = (".yaml", ".yml", ".json")


def settings_in(path: Path, root: Shape) -> tuple[list[Setting], list[str]]:
    """The settings that a file gives, and what is wrong with it as a file."""
    # PyYAML is imported where there is a file to read, and not before.
    from snn_fusion.pretrained.checksum import FIELD
    from snn_fusion.specs.document import Document, FormatError
    from snn_fusion.specs.fault import SpecFileError

    if path.suffix.lower() not in ENDINGS:
        return [], [f"{path}: a file of settings ends in {', '.join(ENDINGS)}"]
    try:
        document = Document(path.read_text(encoding="utf-8-sig"), is_json=path.suffix.lower() == ".json")
    except FileNotFoundError:
        return [], [f"{path}: there is no such file"]
    except OSError as error:
        return [], [f"{path}: cannot be read: {error.strerror}"]
    except UnicodeDecodeError as error:
        return [], [f"{path}: this is not UTF-8: byte {error.start} is {error.object[error.start]:#x}"]
    except FormatError as error:
        return [], str(SpecFileError(path, [error.fault])).splitlines()
    values = cast(object, document.value)
    if not isinstance(values, Mapping):
        return [], [f"{path}:1:1: a file of settings has fields, as in train: {{epochs: 20}}"]
    faults = str(SpecFileError(path, document.faults)).splitlines()
    settings = [
        replace(setting, at=":".join(map(str, (path, *document.position(setting.place)))))
        for setting in settings_of(root, cast(Mapping[str, object], values), str(path))
        if setting.place != (FIELD,)
    ]
    return settings, faults
