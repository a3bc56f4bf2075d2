# SPDX-License-Identifier: Apache-2.0
"""The speed benchmark, at sizes that say nothing about speed."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from docs.studies.speed import (
    child,
    command,
    epoch,
    measure,
    parts,
    rockets,
    scaling,
    step,
)
from docs.studies.speed.__main__ import main
from docs.studies.speed.command import run_speed
from docs.studies.speed.measure import (
    COLUMNS,
    Found,
    Measure,
    Setting,
    Target,
    Unavailable,
    time_in_turns,
)
from tests.ucr_folder import write_dataset

CPU = torch.device("cpu")
TRIAL = Setting(CPU, scale=0.002)
PNG = b"\x89PNG\r\n\x1a\n"


class Clock:
    """Stands still but for what the sides take."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        clock = SimpleNamespace(perf_counter=lambda: self.now)
        monkeypatch.setattr(measure, "time", clock)

    def side(self, *seconds):
        """Return something that takes these seconds, call by call."""
        left = list(seconds)

        def run():
            self.now += left.pop(0)

        return run


def test_the_medians_of_both_sides(monkeypatch):
    clock = Clock(monkeypatch)
    sides = [clock.side(99, 1, 5, 2), clock.side(99, 30, 10, 20)]
    assert time_in_turns(sides, CPU, 1000, most_runs=3) == ([2, 20], 3)


def test_long_sides_run_once(monkeypatch):
    clock = Clock(monkeypatch)
    sides = [clock.side(6), clock.side(5)]
    assert time_in_turns(sides, CPU, 10, warm_up=False) == ([6, 5], 1)


def test_no_round_begins_after_enough_seconds(monkeypatch):
    clock = Clock(monkeypatch)
    sides = [clock.side(*[1] * 9), clock.side(*[2] * 9)]
    _, runs = time_in_turns(sides, CPU, 8, warm_up=False)
    assert runs == 3


@pytest.mark.parametrize(
    ("target", "found", "met"),
    [
        (Target("ratio", 2.5, True), Found(2.0, 5.0), True),
        (Target("ratio", 2.5, True), Found(2.0, 4.9), False),
        (Target("ratio", 2.5, True), Found(2.0), False),
        (Target("ratio", 2.5, True), Found(1.0, 9.0, valid=False), False),
        (Target("ours", 0.3, False), Found(0.3), True),
        (Target("ours", 0.3, False), Found(0.31, 9.0), False),
    ],
)
def test_targets(target, found, met):
    assert target.is_met(found) is met


def test_targets_in_words():
    assert Target("ratio", 2.5, True).describe("s") == "ratio >= 2.5"
    assert Target("ours", 2048.0, False).describe("MiB") == "ours <= 2048 MiB"


@pytest.fixture
def families(monkeypatch):
    """Measures that count their runs; the second one fails at first."""
    runs = {"good": 0, "late": 0, "sum": 0, "never": 0}

    def good(rows):
        runs["good"] += 1
        return Found(2.0, 5.0, conditions={"n": 3})

    def late(rows):
        runs["late"] += 1
        if runs["late"] == 1:
            raise MemoryError("too large")
        return Found(1.0)

    def never(rows):
        runs["never"] += 1
        raise Unavailable("no such device")

    def total(rows):
        runs["sum"] += 1
        done = [row for row in rows.values() if row["ours"] and row["name"] != "sum"]
        return Found(sum(float(row["ours"]) for row in done))

    target = Target("ratio", 2.0, True)
    made = [
        Measure("good", good, target),
        Measure("late", late, target),
        Measure("never", never, target),
        Measure("sum", total, Target("ours", 2.5, False), derived=True),
    ]
    monkeypatch.setattr(command, "FAMILIES", {"all": lambda setting: made})
    return runs


def test_what_is_measured_stays_and_what_failed_is_tried_again(tmp_path, families):
    output = tmp_path / "speed.csv"
    first = {row["name"]: row for row in run_speed(output, TRIAL, progress=False)}
    assert first["good"]["ratio"] == "2.5"
    assert (first["good"]["ours"], first["good"]["other"]) == ("2", "5")
    assert (first["good"]["target"], first["good"]["met"]) == ("ratio >= 2", "yes")
    assert json.loads(first["good"]["conditions"])["trial at scale"] == 0.002
    assert first["late"]["error"] == "MemoryError: too large"
    assert first["late"]["ours"] == first["late"]["met"] == ""
    assert first["never"]["error"] == "skipped: no such device"
    assert (first["sum"]["ours"], first["sum"]["met"]) == ("2", "yes")

    again = {row["name"]: row for row in run_speed(output, TRIAL, progress=False)}
    assert families == {"good": 1, "late": 2, "sum": 2, "never": 2}
    assert again["good"] == first["good"]
    assert again["late"]["error"] == "" and again["late"]["met"] == "no"
    assert (again["sum"]["ours"], again["sum"]["met"]) == ("3", "no")
    header = output.read_text(encoding="utf-8").splitlines()[0]
    assert header == ",".join(COLUMNS)


def test_each_row_is_written_as_it_comes(tmp_path, families, monkeypatch):
    output = tmp_path / "speed.csv"
    plain = command.write_rows
    written = []

    def write_rows(path, columns, rows):
        plain(path, columns, rows)
        written.append([row["name"] for row in rows])

    monkeypatch.setattr(command, "write_rows", write_rows)
    run_speed(output, TRIAL, progress=False)
    assert written[0] == ["good"]
    assert written[-1] == ["good", "late", "never", "sum"]


def test_rows_of_another_device_or_number_of_threads_are_not_mixed(tmp_path, families):
    output = tmp_path / "speed.csv"
    run_speed(output, TRIAL, progress=False)
    with pytest.raises(ValueError, match=re.escape("[('cpu', '1')]")):
        run_speed(output, Setting(CPU, threads=2), progress=False)
    output.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape("speed.csv")):
        run_speed(output, TRIAL, progress=False)


def test_wrong_requests(tmp_path):
    with pytest.raises(ValueError, match=r"\['steps'\] are unknown; choose among"):
        run_speed(tmp_path / "a.csv", TRIAL, ["step", "steps"], progress=False)
    with pytest.raises(ValueError, match="threads=0 must be at least 1"):
        run_speed(tmp_path / "a.csv", Setting(CPU, threads=0), progress=False)
    assert not (tmp_path / "a.csv").exists()


def test_torch_gets_its_threads_back(tmp_path, families):
    before = torch.get_num_threads()
    run_speed(tmp_path / "a.csv", Setting(CPU, threads=before + 1), progress=False)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("number", [0, 1, 2])
def test_both_sides_of_a_step_learn_the_same(number):
    found = step.measures(TRIAL)[number].run({})
    assert found.valid
    # The transform rounds by eps of the largest amplitude. The front end of a step
    # keeps 80 dB, so that the smallest amplitude it reads is 1e-4 of that: both sides
    # are off by 1e4 eps there. The third measure has no logarithm.
    bound = 2 * 1e4 * np.finfo(np.float32).eps if number < 2 else 1e-3
    assert 0 < found.conditions["relative_difference_of_gradients"] < bound
    assert found.ratio > 0
    if number < 2:
        shares = found.conditions["shares_of_ours"]
        assert 0 < shares["recurrent layers, backward"] < 1


def test_another_perturbation_is_no_valid_comparison(monkeypatch):
    plain = step._Problem.straightforward

    def other(self, network):
        module = plain(self, network)
        module.delta.data *= 1.5
        return module

    monkeypatch.setattr(step._Problem, "straightforward", other)
    found = step.measures(TRIAL)[1].run({})
    assert not found.valid
    assert not Target("ratio", 0.0, True).is_met(found)


@pytest.mark.parametrize("number", range(1, 5))
def test_parts_give_what_libraries_give(number):
    one = parts.measures(TRIAL)[number]
    found = one.run({})
    assert found.valid, found.conditions
    assert found.conditions["largest_difference"] < 1e-4
    assert found.ours > 0 and found.other > 0


def test_a_part_that_computes_something_else_is_no_valid_comparison(monkeypatch):
    plain = parts.plain_kernels
    monkeypatch.setattr(parts, "plain_kernels", lambda *args: 1.1 * plain(*args))
    found = parts.measures(TRIAL)[3].run({})
    assert not found.valid


def test_the_limit_of_the_machine():
    found = parts.measures(TRIAL)[0].run({})
    assert found.unit == "GFLOP/s" and found.ours > 0 and found.ratio is None


def test_bfloat16_rounds():
    try:
        found = parts.measures(TRIAL)[-1].run({})
    except Unavailable as error:
        pytest.skip(str(error))
    assert found.ours > 0 and found.other > 0
    assert 1e-4 < found.conditions["relative_difference"] < 0.1


def test_shares_of_operators():
    a, b = torch.ones(400, 400), torch.ones(400)
    groups = {"products": ("aten::mm",), "none": ("aten::sin",)}
    shares = measure.shares_of_operators(lambda: (a @ a, torch.cos(b)), groups)
    assert shares["products"] > 0 and shares["none"] == 0 and shares["rest"] > 0
    assert sum(shares.values()) == pytest.approx(1)


def test_the_measure_of_an_epoch():
    (measure,) = epoch.measures(TRIAL)
    found = measure.run({})
    assert found.conditions["n"] == 10 and found.ours > 0 and found.other == 4.4


def test_seconds_against_sizes():
    measures = scaling.measures(TRIAL)
    by_number = [m for m in measures if m.name.endswith(" series") and not m.derived]
    conditions = by_number[0].run({}).conditions
    # As many as the time allows.
    assert 1 <= conditions.pop("runs") <= 5
    assert conditions == {"n": 8, "length": 200, "threads": 1}
    assert len({m.name for m in measures}) == len(measures)


def rows_of(kind, seconds):
    """Return rows of the benchmark at full size, as if each had taken what is said."""
    measures = scaling.measures(Setting(CPU))
    names = [m.name for m in measures if m.name.endswith(f" {kind}") and not m.derived]
    key = {"series": "n", "time points": "length"}[kind]
    rows = {}
    for name in names:
        size = int(re.findall(r"\d+", name)[0])
        rows[name] = {
            "conditions": json.dumps({key: size}),
            "ours": str(seconds(size)),
            "error": "",
        }
    return rows


def test_growth_is_a_slope_on_logarithmic_axes():
    growth = next(m for m in scaling.measures(Setting(CPU)) if m.derived)
    rows = rows_of("series", lambda size: 0.01 * size**1.5)
    found = growth.run(rows)
    assert found.ours == pytest.approx(1.5)
    assert found.conditions["between neighbours"] == pytest.approx([1.5] * 4)
    assert not growth.target.is_met(found)
    with pytest.raises(Unavailable, match="0 of 5 sizes are measured"):
        growth.run({})


def test_the_figure_comes_with_two_sizes_of_both_kinds():
    rows = rows_of("series", lambda size: 0.01 * size)
    assert scaling.draw_scaling(Setting(CPU), rows) is None
    rows |= rows_of("time points", lambda size: 1.0)
    assert scaling.draw_scaling(Setting(CPU), rows).startswith(PNG)


def test_memory_and_import_in_processes_of_their_own():
    (memory,) = child.memory_measures(TRIAL)
    found = memory.run({})
    assert found.unit == "MiB" and found.ours > 1
    assert found.conditions["n"] == 20 and found.conditions["seconds"] > 0
    found = child.measure_import("import json", 1)
    assert 0 <= found.ours < found.other
    with pytest.raises(RuntimeError, match=r"ended with code 1 .*no_such_module"):
        child.measure_import("import no_such_module", 1)


def test_statements_of_the_import_are_told_apart(monkeypatch):
    measured = []
    monkeypatch.setattr(
        child,
        "measure_import",
        lambda text, rounds: measured.append((text, rounds)) or Found(1),
    )
    for one in child.import_measures(TRIAL):
        one.run({})
    statements = ["import sklearn_v2s", "from sklearn_v2s import V2SClassifier"]
    assert measured == [(text, 1) for text in statements]


def test_rockets_in_total(tmp_path):
    pytest.importorskip("aeon", reason="the rivals are aeon's")
    for name in ("First", "Second"):
        write_dataset(tmp_path, name, n_train=8, n_test=6, n_timepoints=16)
    setting = Setting(CPU, data=tmp_path)
    rows = {}
    measures = rockets.measures(setting)
    mini = [one for one in measures if one.name.endswith("MiniRocket")]
    assert [one.derived for one in mini] == [False, False, True]
    with pytest.raises(Unavailable, match="2 of 2 datasets lack"):
        mini[-1].run(rows)
    for one in mini[:-1]:
        found = one.run(rows)
        shares = found.conditions["shares of ours"]
        assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
        rows[one.name] = {
            "ours": str(found.ours),
            "other": str(found.other),
            "conditions": json.dumps(found.conditions),
            "error": "",
        }
    total = mini[-1].run(rows)
    assert total.ours == pytest.approx(sum(float(row["ours"]) for row in rows.values()))
    shares = total.conditions["shares of ours"]
    assert shares["kernel bank"] > 0 and shares["label mapping"] > 0
    assert sum(shares.values()) == pytest.approx(1, abs=1e-3)


def test_the_parts_of_a_profile_exist():
    def run():
        np.linalg.eigh(np.eye(2))

    assert rockets.profile_parts(run)["rest"] == 1


def test_the_command(tmp_path, families, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["--device", "cpu", "--quiet", "--scale", "0.1"]
    arguments += ["--output", "performance-cpu.csv"]
    assert main(arguments) == 1
    printed = capsys.readouterr().out
    assert "good: 2 s, ratio 2.5 (target ratio >= 2: yes)" in printed
    assert "late: MemoryError: too large" in printed
    assert Path("performance-cpu.csv").is_file()
    table = Path("performance-cpu.md").read_text(encoding="utf-8")
    assert "| good | 2.5 | 2 | 5 | s | ratio >= 2: yes |" in table
    assert "| late | MemoryError: too large |" in table
    assert main(arguments) == 0
