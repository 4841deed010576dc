from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

import snn_datasets
from snn_datasets import DATASETS, AnyDataSpec, DataSpec, DigitsSpec, ManifestSpec


def test_every_public_name_exists():
    for name in snn_datasets.__all__:
        assert getattr(snn_datasets, name) is not None
    assert set(snn_datasets.__all__) < set(dir(snn_datasets))
    with pytest.raises(AttributeError, match="nonsense"):
        snn_datasets.nonsense  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    "spec", [DigitsSpec(modalities=("visual",), seed=3), ManifestSpec(root=Path("pets"), modalities=("sound", "photo"))]
)
def test_json_round_trip_is_the_identity(spec: DataSpec):
    assert TypeAdapter(AnyDataSpec).validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize("kind", ["digits", "manifest"])
def test_every_field_of_a_registered_spec_is_described(kind: str):
    fields = DATASETS[kind].model_fields
    assert DATASETS[kind].model_fields["kind"].default == kind
    assert [name for name in fields if name != "kind" and not fields[name].description] == []


@pytest.mark.parametrize("text", ["visual,audio", " visual , audio "])
def test_modalities_can_be_written_with_commas_and_keep_their_order(text: str):
    assert DigitsSpec.model_validate({"modalities": text}).modalities == ("visual", "audio")


def test_one_modality_can_be_named_alone():
    assert ManifestSpec.model_validate({"root": ".", "modalities": "photo"}).modalities == ("photo",)


def test_no_modalities_of_a_manifest_means_all():
    assert ManifestSpec.model_validate({"root": ".", "modalities": ""}).modalities == ()


def test_a_repeated_modality_is_refused():
    with pytest.raises(ValidationError, match=r"'audio'.*more than once"):
        DigitsSpec(modalities=("audio", "visual", "audio"))


def test_a_stray_comma_is_refused():
    with pytest.raises(ValidationError, match="stray comma"):
        ManifestSpec.model_validate({"root": ".", "modalities": "photo,,sound"})


def test_an_unknown_digits_modality_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'smell'.*audio, visual"):
        DigitsSpec(modalities=("audio", "smell"))


def test_a_misspelled_field_is_refused():
    with pytest.raises(ValidationError, match="imagenoise"):
        DigitsSpec.model_validate({"imagenoise": 0.1})


@pytest.mark.parametrize("fields", [{"image_noise": -0.1}, {"image_occlusion": 17}, {"seed": -1}, {"audio_snr": 1e9}])
def test_a_digits_value_out_of_range_is_refused(fields: dict[str, float]):
    with pytest.raises(ValidationError, match=next(iter(fields))):
        DigitsSpec.model_validate(fields)


def test_a_spec_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        DigitsSpec().seed = 1  # pyright: ignore[reportAttributeAccessIssue]
