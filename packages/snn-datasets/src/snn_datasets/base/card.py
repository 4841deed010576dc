"""A dataset card: what to know about a dataset before having its files. Imports nothing slow."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from snn_datasets.base.kinds import RecordingKind


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class FileSet(_Frozen):
    """Files of a dataset and where they belong on disk."""

    pattern: str
    """Glob relative to the root, such as "AudioWAV/*.wav"."""
    what: str
    """Their content, in a few words."""
    count: int | None = None
    """Number of files in the complete dataset, if known."""
    required: bool = True
    """Whether the dataset cannot be opened without them."""
    modalities: tuple[str, ...] = ()
    """Modalities that need them; empty if all do."""
    checksums: str | None = None
    """Packaged table `checksums/<this>.csv.gz` with columns file (relative to the root), bytes, sha256."""
    sha256: dict[str, str] = {}
    """SHA-256 checksums by file name relative to the root, where there are few."""
    md5: dict[str, str] = {}
    """MD5 checksums by file name, where the source publishes no SHA-256."""
    former_names: dict[str, str] = {}
    """Earlier file names that mirrors still use -> current names, both relative to the root."""


class ModalityCard(_Frozen):
    """One modality of a dataset."""

    kind: RecordingKind
    """Kind of its recordings."""
    shape: str
    """Shape of one input, in words or numbers, such as "[T, 2, 128, 128]"."""
    unit: str
    """Unit of its values, such as "events per pixel and step"."""
    synthetic: bool = False
    """Whether it is computed rather than recorded."""


class DatasetCard(_Frozen):
    """Description of a dataset: content, sources, license, splits and layout on disk."""

    kind: str
    """Name in the registry and on the command line."""
    title: str
    """Its full name."""
    version: str
    """Version of the data as its source states it, or the year."""
    license: str
    """SPDX expression; LicenseRef-unknown if the source states none."""
    license_note: str = ""
    """Terms that the expression does not cover."""
    citation: str
    """How to cite it, in one line."""
    sources: tuple[str, ...]
    """Names of the places that offer it; nothing is downloaded."""
    files: tuple[FileSet, ...] = ()
    """Files expected on disk; empty if the data is embedded."""
    classes: tuple[str, ...]
    """Class names in label order; empty if the files determine them."""
    modalities: dict[str, ModalityCard]
    """Modalities by name."""
    splits: str
    """How the splits are made, and what they never share."""
    synthetic: str = ""
    """What is synthetic, in a sentence; empty if nothing is."""
    notes: tuple[str, ...] = ()
    """What to know before publishing results on it."""

    def layout(self) -> str:
        """Return the expected files, one line per set."""
        return "\n".join(f"  {files.pattern}  ({files.what})" for files in self.files)
