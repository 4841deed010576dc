"""The table of studies: every folder with a `STUDY` is complete."""

import subprocess
import sys
from importlib import import_module

import pytest

from scmrl.study.kinds import KINDS
from scmrl.study.spec import StudySpec


@pytest.mark.parametrize("name", KINDS)
def test_every_part_of_a_study_can_be_imported(name: str):
    kind = KINDS[name]
    for reference in (kind.spec, kind.findings, kind.measure, kind.run):
        module, _, attribute = reference.partition(":")
        assert callable(getattr(import_module(module), attribute)), reference


@pytest.mark.parametrize("name", KINDS)
def test_a_spec_has_the_name_of_its_folder(name: str):
    spec_type = KINDS[name].spec_type()
    assert issubclass(spec_type, StudySpec)
    assert spec_type.kind == name
    assert f"scmrl study {name} " in KINDS[name].example


def test_specs_import_neither_pytorch_nor_findings():
    code = (
        "import sys; from scmrl.study.kinds import KINDS; [kind.spec_type() for kind in KINDS.values()]; "
        "assert not {'torch', 'matplotlib', 'optuna', 'scmrl.study.tables'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
