# SPDX-License-Identifier: Apache-2.0
"""Run measures and write a row for each of them."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from docs.studies.speed import (
    child,
    epoch,
    parts,
    rockets,
    scaling,
    search,
    step,
)
from docs.studies.speed.measure import COLUMNS, Measure, Setting, Unavailable
from sklearn_v2s.benchmark.markdown import markdown_table
from sklearn_v2s.benchmark.results import read_rows, write_rows
from sklearn_v2s.benchmark.worker import (
    describe_error,
    describe_machine,
    installed_versions,
)
from sklearn_v2s.runtime.tensor_file import write_bytes

__all__ = ["FAMILIES", "describe_rows", "device_label", "run_speed"]

FAMILIES: dict[str, Callable[[Setting], list[Measure]]] = {
    "step": step.measures,
    "parts": parts.measures,
    "epoch": epoch.measures,
    "import": child.import_measures,
    "search": search.measures,
    "memory": child.memory_measures,
    "scaling": scaling.measures,
    "rockets": rockets.measures,
}


def device_label(device: torch.device) -> str:
    """Return the kind of a device in lower case, for names of files.

    Parameters
    ----------
    device : torch.device
        Any.

    Returns
    -------
    str
        Such as ``"cpu"`` or ``"nvidia-h200"``.

    Examples
    --------
    >>> import torch
    >>> from docs.studies.speed.command import device_label
    >>> device_label(torch.device("cpu"))
    'cpu'
    """
    name = device.type
    if name in {"cuda", "xpu"}:
        name = getattr(torch, name).get_device_name(device)
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _significant(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _row(
    measure: Measure, rows: dict[str, dict[str, str]], setting: Setting
) -> dict[str, str]:
    row: dict[str, Any] = dict.fromkeys(COLUMNS, "")
    row |= {
        "name": measure.name,
        "device": device_label(setting.device),
        "machine": describe_machine(),
        "threads": setting.threads,
        "seeds": setting.seed,
    }
    try:
        found = measure.run(rows)
        if setting.scale < 1:
            found.conditions["trial at scale"] = setting.scale
    except Unavailable as error:
        row["error"] = f"skipped: {error}"
    except Exception as error:
        row["error"] = describe_error(error)
    else:
        row |= {
            "ratio": _significant(found.ratio),
            "ours": _significant(found.ours),
            "other": _significant(found.other),
            "unit": found.unit,
            "conditions": json.dumps(found.conditions),
        }
        if measure.target is not None:
            row["target"] = measure.target.describe(found.unit)
            row["met"] = "yes" if measure.target.is_met(found) else "no"
    # After the run: only then is all imported that a measure needs.
    versions = installed_versions()
    row |= {"versions": json.dumps(versions, sort_keys=True), "date": versions["date"]}
    return {name: str(value) for name, value in row.items()}


def describe_rows(rows: Sequence[dict[str, str]]) -> list[str]:
    """Return the rows as a document in Markdown.

    Parameters
    ----------
    rows : sequence of dict of str to str
        Of one device.

    Returns
    -------
    list of str
        Lines.

    Examples
    --------
    >>> from docs.studies.speed.command import describe_rows
    >>> from docs.studies.speed.measure import COLUMNS
    >>> row = dict.fromkeys(COLUMNS, "") | {"name": "step", "error": "skipped: no"}
    >>> describe_rows([row | {"versions": "{}"}])[-2]
    '| step | skipped: no |  |  |  |  |'
    """
    lines = []
    for row in rows:
        cells = [row["error"] or row["ratio"], row["ours"], row["other"], row["unit"]]
        target = f"{row['target']}: {row['met']}" if row["target"] else ""
        lines.append([row["name"], *cells, target])
    machines = sorted({row["machine"] for row in rows})
    versions = json.loads(rows[-1]["versions"]) if rows else {}
    described = ", ".join(f"{name} {value}" for name, value in versions.items())
    header = ["measure", "ratio (other / ours)", "ours", "other", "unit", "target"]
    return [
        "# What things cost",
        "",
        "Written by `python -m docs.studies.speed`. Medians of runs in turns; "
        "conditions of each row stand in the CSV file of the same name.",
        "",
        f"Machine: {'; '.join(machines)}; threads: "
        f"{', '.join(sorted({row['threads'] for row in rows}))}; {described}.",
        "",
        *markdown_table(header, lines),
        "",
    ]


def run_speed(
    output: Path,
    setting: Setting,
    families: Sequence[str] = (),
    progress: bool = True,
) -> list[dict[str, str]]:
    """Make measures and write them to a file, row by row.

    Parameters
    ----------
    output : Path
        CSV file with the columns `COLUMNS`; a table in Markdown and a figure of the
        scaling are written beside it. Rows without an error are kept and not
        measured again; those of measures computed from others are made anew.
    setting : Setting
        Device, data, threads, seed.
    families : sequence of str, default=()
        Names in `FAMILIES`; empty means all.
    progress : bool, default=True
        Whether to show a progress bar.

    Returns
    -------
    list of dict of str to str
        The rows of the file.

    Raises
    ------
    ValueError
        If a family is unknown, the file is another table, or it holds rows of another
        device or number of threads, which would not belong in one table.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import torch
    >>> from docs.studies.speed.command import run_speed
    >>> from docs.studies.speed.measure import Setting
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rows = run_speed(
    ...         Path(folder) / "speed.csv",
    ...         Setting(torch.device("cpu")),
    ...         ["rockets"],
    ...         progress=False,
    ...     )
    >>> rows[0]["error"]
    'skipped: give the folder of datasets by --data'
    """
    unknown = sorted(set(families) - set(FAMILIES))
    if unknown:
        raise ValueError(
            f"measures {unknown} are unknown; choose among {list(FAMILIES)}."
        )
    if setting.threads < 1:
        raise ValueError(f"threads={setting.threads} must be at least 1.")
    rows = {row["name"]: row for row in read_rows(output, COLUMNS)}
    wanted = device_label(setting.device), str(setting.threads)
    others = {(row["device"], row["threads"]) for row in rows.values()} - {wanted}
    if others:
        raise ValueError(
            f"{output.name} has rows of (device, threads) {sorted(others)}, but these "
            f"are {wanted}; name another file."
        )
    todo = [
        measure
        for name in families or FAMILIES
        for measure in FAMILIES[name](setting)
        if measure.derived or rows.get(measure.name, {"error": "not there"})["error"]
    ]
    before = torch.get_num_threads()
    torch.set_num_threads(setting.threads)
    try:
        with threadpool_limits(setting.threads):
            for measure in tqdm(todo, desc="speed", disable=not progress):
                rows[measure.name] = _row(measure, rows, setting)
                write_rows(output, COLUMNS, list(rows.values()))
    finally:
        torch.set_num_threads(before)
    text = "\n".join(describe_rows(list(rows.values())))
    write_bytes(output.with_suffix(".md"), text.encode())
    picture = scaling.draw_scaling(setting, rows)
    if picture is not None:
        write_bytes(output.with_suffix(".png"), picture)
    return list(rows.values())
