"""Plug-ins: imported when their name is used; a broken one affects no other."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugin"
MODEL = "ModelSpec.model_validate({'input_shapes': {'a': [1, 16, 16]}, 'num_classes': 2, %s})"
IMPORTS = "from snn_fusion import METHODS, NEURONS, ModelSpec, SpecFileError, json_schema, load_spec"
WITHOUT_TORCH = "; assert 'torch' not in sys.modules"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example's wheel unpacked, as an installer leaves it; needs no network."""
    folder = tmp_path_factory.mktemp("example")
    source = shutil.copytree(EXAMPLE, folder / "source")
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", build, folder], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def install(folder: Path, distribution: str, code: str, *, kind: str = "mine") -> None:
    """Write a distribution with one module, which an entry point registers as a neuron."""
    module = distribution.replace("-", "_")
    folder.joinpath(f"{module}.py").write_text(code)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    info.joinpath("entry_points.txt").write_text(f"[snn_fusion.neurons]\n{kind} = {module}:Mine\n")


def run(code: str, *folders: Path, flags: tuple[str, ...] = ("-W", "error")) -> subprocess.CompletedProcess[str]:
    """Run code in a Python that has these folders on its path."""
    path = os.pathsep.join(map(str, [*folders, *filter(None, [os.environ.get("PYTHONPATH")])]))
    return subprocess.run(
        [sys.executable, *flags, "-c", f"import sys; {IMPORTS}\n{code}"],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def neuron_spec(kind: str) -> str:
    return (
        "from typing import Literal\n"
        "from snn_fusion import NEURONS, LIFSpec, NeuronSpec\n"
        "@NEURONS.register\n"
        "class Mine(NeuronSpec):\n"
        f"    kind: Literal['{kind}'] = '{kind}'\n"
        "    def build(self):\n"
        "        return LIFSpec().build()\n"
    )


def test_installed_method_is_used_by_name_from_a_file(example: Path):
    code = f"""
import torch
from snn_fusion import calibrate
spec = load_spec({str(EXAMPLE / "model.yaml")!r})
torch.manual_seed(0)
batch = {{"audio": torch.rand(4, 1, 16, 16), "visual": torch.rand(4, 3, 16, 16)}}
model = spec.build()
calibrate(model, batch)
output = model.eval()(batch)
print(type(model.fusion).__module__, *output.residuals, tuple(output.logits.shape))
print(all(residual.any() for residual in output.residuals.values()))
"""
    done = run(code, example)
    assert done.stdout.splitlines() == [
        "snn_fusion_context.method ('audio', 'visual') ('visual', 'audio') (4, 6)",
        "True",
    ], done.stderr


def test_installed_method_is_in_the_schema_and_its_faults_are_reported(example: Path, tmp_path: Path):
    tmp_path.joinpath("model.yaml").write_text(
        "num_classes: 2\ninput_shapes: {a: [1, 16, 16]}\nfusion:\n  kind: context\n  alfa: 2\n"
    )
    code = f"""
print(list(METHODS.specs())[-1])
print(json_schema()["properties"]["fusion"]["oneOf"][-1]["required"])
try:
    load_spec({str(tmp_path / "model.yaml")!r})
except SpecFileError as error:
    print(error.faults[0].position, error.faults[0].text)
{WITHOUT_TORCH[2:]}
"""
    done = run(code, example)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "context"
    assert done.stdout.splitlines()[1] == "['kind']"
    assert "line=5, column=3) there is no such field; did you mean alpha? known: kind, alpha" in done.stdout


@pytest.mark.slow
def test_installed_method_passes_the_conformance_tests(example: Path):
    conformance = Path(__file__).with_name("test_conformance.py")
    code = (
        f"import pytest; sys.exit(pytest.main(['-q', '-k', 'context', '-p', 'no:cacheprovider', {str(conformance)!r}]))"
    )
    done = run(code, example, flags=())
    assert done.returncode == 0, done.stdout
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) > 5


def test_the_documentation_shows_the_example():
    page = (EXAMPLE.parents[1] / "docs" / "specs.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```py\n(.*?)```", page, re.DOTALL)
    assert example in (EXAMPLE / "src" / "snn_fusion_context" / "__init__.py").read_text(encoding="utf-8")
    entry = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)[0]
    assert entry in (EXAMPLE / "pyproject.toml").read_text(encoding="utf-8")


def test_without_the_plugin_its_kind_is_unknown():
    done = run(f"load_spec({str(EXAMPLE / 'model.yaml')!r})")
    assert done.returncode == 1
    assert "model.yaml:7:9: fusion.kind: unknown fusion method kind 'context'; known kinds: ccssa" in done.stderr


def test_plugins_are_not_imported_before_they_are_needed(tmp_path: Path):
    install(tmp_path, "snn-mine", "print('imported')\n" + neuron_spec("mine"))
    known, mine = (MODEL % f"'neuron': {{'kind': '{kind}'}}" for kind in ("alif", "mine"))
    done = run(f"{known}; print('not yet'); {mine}; NEURONS.specs(){WITHOUT_TORCH}", tmp_path)
    assert done.stdout.splitlines() == ["not yet", "imported"], done.stderr


def test_a_broken_plugin_is_reported_where_it_is_used_and_affects_no_other(tmp_path: Path):
    install(tmp_path, "snn-broken", "import no_such_module", kind="broken")
    install(tmp_path, "snn-mine", neuron_spec("mine"))
    mine, other = (MODEL % f"'neuron': {{'kind': '{kind}'}}" for kind in ("mine", "broken"))
    done = run(f"{mine}; print('mine'); {other}", tmp_path)
    assert done.stdout == "mine\n", done.stderr
    assert (
        "neuron 'broken' of snn-broken cannot be imported from snn_broken:Mine: ModuleNotFoundError: No module named"
        in (done.stderr)
    )


def test_a_list_warns_of_a_broken_plugin_once(tmp_path: Path):
    install(tmp_path, "snn-broken", "1 / 0", kind="broken")
    done = run("for _ in range(3): print(*NEURONS.specs())", tmp_path, flags=())
    assert done.stdout.splitlines() == ["lif if plif alif"] * 3
    assert (
        done.stderr.count(
            "RuntimeWarning: neuron 'broken' of snn-broken cannot be imported from snn_broken:Mine: ZeroDivision"
        )
        == 1
    )


def test_a_plugin_cannot_replace_a_kind(tmp_path: Path):
    install(tmp_path, "snn-mine", neuron_spec("lif"), kind="lif")
    done = run("print(NEURONS.specs()['lif'].__name__)", tmp_path, flags=())
    assert done.stdout == "LIFSpec\n"
    assert "neuron kind 'lif' of snn-mine is already taken by LIFSpec" in done.stderr


def test_a_plugin_may_use_the_registries_while_it_is_imported(tmp_path: Path):
    asks = f"{IMPORTS}\nNEURONS.specs(); METHODS.parse({{'kind': 'none'}}); json_schema()\n"
    install(tmp_path, "snn-mine", asks + neuron_spec("mine"))
    done = run("print(*NEURONS.specs())", tmp_path)
    assert done.stdout == "lif if plif alif mine\n", done.stderr
