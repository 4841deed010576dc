"""What there is to know about a dataset before one has it: a card. Imports nothing heavy."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from snn_datasets.kinds import RecordingKind


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class FileSet(_Frozen):
    """Files that belong to a dataset, as they must lie on disk."""

    pattern: str
    """Glob relative to the root, such as "AudioWAV/*.wav"."""
    what: str
    """What they are, in a few words."""
    count: int | None = None
    """How many there are in the complete dataset, where that is known."""
    required: bool = True
    """Whether the dataset cannot be opened without them."""
    modalities: tuple[str, ...] = ()
    """The senses that need them; empty: whatever is read, they are needed."""
    checksums: str | None = None
    """Packaged table `checksums/<this>.csv.gz` with columns file (relative to the root), bytes, sha256."""
    sha256: dict[str, str] = {}
    """Known hashes by file name relative to the root, where they are few."""
    md5: dict[str, str] = {}
    """The same where a source only states MD5."""
    former_names: dict[str, str] = {}
    """Names that files had before and still have in mirrors, relative to the root, with the names they have now."""


class ModalityCard(_Frozen):
    """One sense of a dataset."""

    kind: RecordingKind
    """What its files are."""
    shape: str
    """Of one input, in words or numbers, such as "[T, 2, 128, 128]"."""
    unit: str
    """Of its values, such as "events per pixel and step"."""
    synthetic: bool = False
    """Whether it was computed rather than recorded."""


class DatasetCard(_Frozen):
    """What a dataset is, where it is from, how it is split, and how it must lie on disk."""

    kind: str
    """The name that asks for it."""
    title: str
    """Its full name."""
    version: str
    """Of the data, as their source states it, or the year."""
    license: str
    """SPDX expression; LicenseRef-unknown where the source states none."""
    license_note: str = ""
    """What the expression does not say."""
    citation: str
    """How to cite it, in one line."""
    sources: tuple[str, ...]
    """Where it can be had, by name; nothing is downloaded."""
    files: tuple[FileSet, ...] = ()
    """How it must lie on disk; none for what is embedded."""
    classes: tuple[str, ...]
    """Class names in the order of labels; empty where the files decide."""
    modalities: dict[str, ModalityCard]
    """Its senses by name."""
    splits: str
    """How training, validation and test samples are told apart, and what they never share."""
    synthetic: str = ""
    """What in it is synthetic, in a sentence; empty if nothing."""
    notes: tuple[str, ...] = ()
    """What one has to know before publishing numbers on it."""

    def layout(self) -> str:
        """How the files must lie on disk, a line each."""
        return "\n".join(f"  {files.pattern}  ({files.what})" for files in self.files)
