from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ValidationError

from snn_datasets import DATASETS, DataSpec, DigitsSpec, Registry


class Base(BaseModel, frozen=True, extra="forbid"):
    size: int = 1


class Tiny(Base, frozen=True):
    kind: Literal["tiny"] = "tiny"


class Huge(Base, frozen=True):
    kind: Literal["huge"] = "huge"


REGISTRY: Registry[Base] = Registry("thing", "no.such.group")
REGISTRY.register(Tiny)
REGISTRY.register(Huge)


class Outer(BaseModel):
    thing: Annotated[Base, REGISTRY]


def test_a_registry_holds_each_kind_once_and_names_them_for_an_unknown_one():
    assert dict(REGISTRY) == {"huge": Huge, "tiny": Tiny}
    assert "tiny" in REGISTRY
    assert "medium" not in REGISTRY

    class Other(Base, frozen=True):
        kind: Literal["tiny"] = "tiny"

    with pytest.raises(ValueError, match=r"'tiny'.*Tiny"):
        REGISTRY.register(Other)
    with pytest.raises(ValueError, match=r"'tny'; did you mean tiny\? known kinds: huge, tiny"):
        REGISTRY["tny"]


def test_a_model_without_a_kind_cannot_be_registered():
    with pytest.raises(ValueError, match=r"Base.*kind"):
        REGISTRY.register(Base)


def test_a_field_is_read_by_its_kind_and_round_trips():
    outer = Outer.model_validate({"thing": {"kind": "huge", "size": 3}})
    assert outer.thing == Huge(size=3)
    assert Outer.model_validate_json(outer.model_dump_json()) == outer


@pytest.mark.parametrize(
    ("value", "words"), [({"kind": "hug"}, "did you mean huge"), ({"size": 2}, "huge, tiny"), (3, "huge, tiny")]
)
def test_a_field_of_no_known_kind_lists_the_known_ones(value: object, words: str):
    with pytest.raises(ValidationError, match=words):
        Outer.model_validate({"thing": value})


def test_the_schema_lists_every_kind():
    schema = Outer.model_json_schema()
    text = str(schema)
    assert "tiny" in text
    assert "huge" in text


def test_own_datasets_are_found_by_entry_point():
    assert DATASETS["digits"] is DigitsSpec
    assert set(DATASETS) >= {"digits", "manifest"}


def test_a_package_that_cannot_be_imported_is_named_where_its_kind_is_requested(monkeypatch: pytest.MonkeyPatch):
    from importlib.metadata import EntryPoint

    import snn_datasets.base.registry as module

    broken = EntryPoint(name="nose", value="no_such_module:Nose", group="g")
    odd = EntryPoint(name="odd", value="json:dumps", group="g")
    monkeypatch.setattr(module, "entry_points", lambda group: [broken, odd] if group == "g" else [])
    registry: Registry[DataSpec] = Registry("dataset", "g")
    assert list(registry) == ["nose", "odd"]
    with pytest.raises(ValueError, match=r"'nose'.*cannot be imported from no_such_module:Nose: ModuleNotFoundError"):
        registry["nose"]
    with pytest.raises(ValueError, match=r"json:dumps is registered as dataset 'odd'.*kind"):
        registry["odd"]
