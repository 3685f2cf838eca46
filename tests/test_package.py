"""What `pip install .` gives: a wheel with every data file, that plans in an environment of its own, away from the checkout."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from planner import __version__

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without the network."""
    pytest.importorskip("setuptools", reason="the build backend is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "source"  # a build leaves files behind
    names = subprocess.run(["git", "ls-files", "planner", "README.md", "LICENSE", "pyproject.toml"], cwd=ROOT, capture_output=True, text=True, check=False)
    if names.returncode:
        pytest.skip("not a git checkout")
    for name in names.stdout.split("\n"):
        if name and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(copy)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    names = subprocess.run(["git", "ls-files", "planner"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    assert [name for name in names if name and (ROOT / name).is_file() and name not in held] == []
    assert wheel.name.startswith(f"plumbline-{__version__}-py3-none-any")


def test_it_plans_where_it_is_installed(wheel: Path, tmp_path: Path) -> None:
    """The command `planner` in a new environment, which sees the dependencies of this one and nothing of the checkout."""
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True, text=True)
    site = next((tmp_path / "env" / "lib").glob("python*")) / "site-packages"
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (tmp_path / "run.yaml").write_text("model: gpt2\ndata: 1M\n")
    planner = tmp_path / "env" / "bin" / "planner"
    said = subprocess.run([str(planner), "estimate", "run.yaml"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert said.startswith("Fits, with ")
    where = subprocess.run([str(python), "-c", "import planner; print(planner.__file__)"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert where.startswith(str(tmp_path))
    doctor = subprocess.run([str(planner), "doctor"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert __version__ in doctor
