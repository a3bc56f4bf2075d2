# SPDX-License-Identifier: Apache-2.0
"""What users install: the wheel."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
_LARGEST = 4 * 2**20


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    # A copy: the build leaves folders of its own beside the sources.
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "sklearn_v2s", folder / "sklearn_v2s", ignore=ignored)
    for name in ("tests", "docs", "examples"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").touch()
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    subprocess.run(
        [sys.executable, "-c", "import setuptools.build_meta as b; b.build_wheel('.')"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("*.whl")
    assert built.stat().st_size < _LARGEST
    return zipfile.ZipFile(built)


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = wheel.namelist()
    tops = {name.split("/")[0].split("-")[0] for name in names}
    assert tops == {"sklearn_v2s"}
    tracked = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "sklearn_v2s").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if ".dist-info/" not in name} == tracked
    kinds = {Path(name).suffix for name in tracked}
    assert kinds == {".csv", ".json", ".md", ".py", ".safetensors", ".typed"}


def test_the_wheel_asks_for_what_pyproject_says(wheel):
    (name,) = [name for name in wheel.namelist() if name.endswith("/METADATA")]
    metadata = message_from_bytes(wheel.read(name))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert metadata["Version"] == project["version"]
    needed = {
        line.split(";")[0].strip()
        for line in metadata.get_all("Requires-Dist")
        if "extra ==" not in line
    }
    assert {line.split(">=")[0] for line in needed} == {
        line.split(">=")[0] for line in project["dependencies"]
    }
    (entry,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert "v2s = sklearn_v2s.cli:main" in wheel.read(entry).decode()
