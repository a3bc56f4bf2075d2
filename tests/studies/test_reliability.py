# SPDX-License-Identifier: Apache-2.0
"""The study of faults, with few of each."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from docs.studies import reliability
from docs.studies.reliability.__main__ import main
from docs.studies.reliability.children import count, in_child
from docs.studies.reliability.files import FORMATS, RIGHT
from docs.studies.reliability.limits import try_limit
from docs.studies.reliability.page import fill_page

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


@pytest.mark.slow
def test_other_faults(tmp_path: Path):
    output = tmp_path / "r.json"
    command = ["--only", "kills", "settings", "surroundings", "--output", str(output)]
    together = "8 threads that predict with one estimator"
    few = ["--kills", "1", "--settings", "5", "--surroundings", together]
    assert main([*command, *few]) == 0
    found = json.loads(output.read_text())
    assert list(found) == ["kills", "settings", "surroundings"]
    kills = found["kills"]["v2s train"]["outcomes"]
    assert kills["killed, files intact"] == 1
    assert kills["resumed to the same bits"] >= 1
    assert sum(found["settings"]["V2SClassifier"]["outcomes"].values()) == 5
    assert found["surroundings"][together]["outcomes"] == {"same bits": 16}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["memory", "size of files", "file written by two"])
def test_limits(name: str):
    found = try_limit(name, 2, seed=0)
    assert found["wrong"] == 0, found["examples"]


def test_a_fault_is_no_success():
    outcomes = [("fine", ""), ("wrong", "an error"), ("wrong", "another")]
    found = count(outcomes, ["fine"])
    assert (found["tried"], found["wrong"]) == (3, 2)
    assert found["examples"] == [["wrong", "an error"], ["wrong", "another"]]
    assert in_child(lambda: ("fine", "")) == ("fine", "")
    outcome, error = in_child(lambda: os.kill(os.getpid(), signal.SIGKILL))
    assert outcome == "crash" and error.startswith("wait status")


def test_the_page_has_the_figures_of_the_result_file():
    folder = Path(reliability.__file__).parent
    result = json.loads((folder / "reliability.json").read_text(encoding="utf-8"))
    page = (folder.parents[1] / "reliability.md").read_text(encoding="utf-8")
    assert fill_page(page, result) == page
    assert set(result) == {"files", "limits", "kills", "settings", "surroundings"}
