"""What snn-fusion and snn-datasets both need, and neither may import from the other, is the same in both."""

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from snn_datasets.base import registry as datasets_registry
from snn_fusion.specs import registry as fusion_registry

SOURCES = Path(__file__).parents[2] / "packages"


class Soft(BaseModel):
    """A kind of this file."""

    kind: Literal["soft"] = "soft"
    level: int = 1


class OtherSoft(Soft):
    """Another class of the same kind."""


def fusion(default: str | None = None) -> Any:
    return fusion_registry.Registry("voice", "tests.voices", BaseModel, default=default)


def datasets(default: str | None = None) -> Any:
    return datasets_registry.Registry("voice", "tests.voices", default=default)


REGISTRY = pytest.mark.parametrize("make", [fusion, datasets])


def test_the_helper_of_lazy_exports_is_one_text():
    texts = {path.read_text(encoding="utf-8") for path in SOURCES.glob("*/src/**/lazy_exports.py")}
    assert len(texts) == 1


def messages(make: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return what a registry reports in each of these cases, without the list of known kinds, whose order differs."""
    registry = make()
    registry.register(Soft)
    broken = EntryPoint("loud", "no_such_module:Loud", "tests.voices")
    monkeypatch.setattr(registry, "_offered", {"loud": broken})

    def message_of(call: Any) -> str:
        with pytest.raises(ValueError, match=r".") as error:
            call()
        return str(error.value).partition("known kinds: ")[0]

    return {
        "unknown": message_of(lambda: registry["sof"]),
        "taken": message_of(lambda: registry.register(OtherSoft)),
        "no kind": message_of(lambda: registry.register(BaseModel)),
        "broken": message_of(lambda: registry["loud"]),
        "no mapping": message_of(lambda: registry.parse(3)),
        "no kind in the mapping": message_of(lambda: registry.parse({})),
        "unknown in a mapping": message_of(lambda: registry.parse({"kind": "hard"})),
    }


def test_registries_report_the_same_faults(monkeypatch: pytest.MonkeyPatch):
    texts = messages(fusion, monkeypatch)
    assert texts == messages(datasets, monkeypatch)
    assert texts["unknown"].startswith("unknown voice kind 'sof'; did you mean soft? ")


@REGISTRY
def test_registries_read_mappings_by_kind(make: Any):
    registry = make(default="soft")
    registry.register(Soft)
    assert registry.parse({"level": 3}) == Soft(level=3)
    assert registry.parse(Soft(level=2)) == Soft(level=2)
    assert list(registry.specs()) == list(registry) == ["soft"]
    assert "soft" in registry
    assert len(registry) == 1
