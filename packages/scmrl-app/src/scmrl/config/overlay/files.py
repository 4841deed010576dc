"""Parse YAML and JSON files into settings.

Syntax errors are faults with line and column; names and values are checked when settings are merged. `experiment.json`
of a run is a configuration file, too: its checksum is ignored, because a copy for another run may be edited.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

from scmrl.config.overlay.field_types import FieldType
from scmrl.config.overlay.settings import Setting, settings_of

ENDINGS = (".yaml", ".yml", ".json")


def settings_in(path: Path, root: FieldType) -> tuple[list[Setting], list[str]]:
    """Return the settings of a file and its syntax errors."""
    # Imported here so that PyYAML is only loaded if there is a file to read.
    from snn_fusion.pretrained.checksum import FIELD
    from snn_fusion.specs.document import Document, FormatError
    from snn_fusion.specs.fault import SpecFileError

    if path.suffix.lower() not in ENDINGS:
        return [], [f"{path}: a configuration file must end in {', '.join(ENDINGS)}"]
    try:
        document = Document(path.read_text(encoding="utf-8-sig"), is_json=path.suffix.lower() == ".json")
    except FileNotFoundError:
        return [], [f"{path}: there is no such file"]
    except OSError as error:
        return [], [f"{path}: cannot be read: {error.strerror}"]
    except UnicodeDecodeError as error:
        return [], [f"{path}: not UTF-8: byte {error.start} is {error.object[error.start]:#x}"]
    except FormatError as error:
        return [], str(SpecFileError(path, [error.fault])).splitlines()
    values = cast(object, document.value)
    if not isinstance(values, Mapping):
        return [], [f"{path}:1:1: a configuration file must have fields, as in train: {{epochs: 20}}"]
    faults = str(SpecFileError(path, document.faults)).splitlines()
    settings = [
        replace(setting, location=":".join(map(str, (path, *document.position(setting.path)))))
        for setting in settings_of(root, cast(Mapping[str, object], values), str(path))
        if setting.path != (FIELD,)
    ]
    return settings, faults
