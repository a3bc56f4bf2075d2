# SPDX-License-Identifier: Apache-2.0
"""The study of faults, with few of each."""

import json
import sys
from pathlib import Path

import pytest

from docs.studies.reliability.__main__ import main
from docs.studies.reliability.files import FORMATS, RIGHT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits are of Linux")


@pytest.mark.slow
def test_damaged_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    output = tmp_path / "r.json"
    formats = ["source checkpoint", "series .npy"]
    command = ["--only", "files", "--files", "40", "--output", str(output)]
    assert main([*command, "--formats", *formats]) == 0
    found = json.loads(output.read_text())["files"]
    assert list(found) == formats and set(formats) < set(FORMATS)
    for name in formats:
        assert found[name]["wrong"] == 0
        assert set(found[name]["outcomes"]) <= set(RIGHT)
        assert sum(found[name]["outcomes"].values()) == found[name]["files"] == 40
        assert found[name]["environment"]["python"]
        assert f"files, {name}: " in capsys.readouterr().out or name != formats[0]
