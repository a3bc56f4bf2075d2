# SPDX-License-Identifier: Apache-2.0
"""The table of ``docs/reproduction.md``, from result files."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from docs.studies.paper.rule import read_rule, summarise_paper_rule
from docs.studies.paper.table2 import PaperRow, read_table2
from sklearn_v2s.benchmark.markdown import markdown_table
from sklearn_v2s.benchmark.report import read_results
from sklearn_v2s.runtime.tensor_file import write_bytes

__all__ = [
    "BEGIN",
    "END",
    "fill_block",
    "reproduction_table",
    "rule_table",
    "write_table",
]

BEGIN = "<!-- begin table -->"
END = "<!-- end table -->"

_MISSING = "not run"
_COLLAPSED = "†"
_HEADER = (
    "dataset", "paper's V2Sa", "paper preset, honest",
    "paper preset, the paper's own rule (chosen on test data)",
    "the method at settings that work, honest", "our default",
    "seeds (preset / settings that work / default)", "fits of the preset",
)  # fmt: skip


def _percent(value: float | None) -> str:
    return _MISSING if value is None else f"{100 * value:.2f}"


def rule_table(rule: Sequence[dict[str, Any]]) -> str:
    """Return what the paper preset reached, for each dataset that was run.

    Parameters
    ----------
    rule : sequence of dict
        Rows of `run_paper_rule`.

    Returns
    -------
    str
        Markdown; accuracies in percent.
    """
    published = {row.dataset: row for row in read_table2()}
    lines = []
    for name, ours in summarise_paper_rule(rule).items():
        row = published.get(name)
        lines.append(
            [
                name + _mark(row),
                f"{row.accuracy['v2sa']:.2f}" if row else "–",
                _percent(ours["honest"]),
                _percent(ours["chosen_on_test"]),
                _percent(ours["best_seed_chosen_on_test"]),
                str(ours["n_seeds"]),
                str(ours["n_fits"]),
            ]
        )
    header = (*_HEADER[:4], "the same, best seed", "seeds", "fits")
    return "\n".join(markdown_table(header, lines))


def _mark(row: PaperRow | None) -> str:
    return f" {_COLLAPSED}" if row is not None and row.collapsed else ""


def reproduction_table(
    rule: Sequence[dict[str, Any]], results: Sequence[dict[str, Any]]
) -> str:
    """Return the paper's Table 2 beside what was measured.

    Parameters
    ----------
    rule : sequence of dict
        Rows of `run_paper_rule`.
    results : sequence of dict
        Rows of `run_accuracy`; the methods ``"v2s"`` and ``"v2s-frequency"`` are read.

    Returns
    -------
    str
        Markdown. Accuracies are in percent, means over seeds; the last line averages
        the datasets that have all numbers and whose published one is no artefact.
    """
    preset = summarise_paper_rule(rule)
    default = _accuracies(results, "v2s")
    working = _accuracies(results, "v2s-frequency")
    lines: list[list[str]] = []
    complete: list[list[float]] = []
    for published in read_table2():
        name = published.dataset
        ours = preset.get(name)
        runs, others = default.get(name, []), working.get(name, [])
        values = [
            published.accuracy["v2sa"] / 100,
            ours["honest"] if ours else None,
            ours["chosen_on_test"] if ours else None,
            float(np.mean(others)) if others else None,
            float(np.mean(runs)) if runs else None,
        ]
        known = [value for value in values if value is not None]
        if len(known) == len(values) and not published.collapsed:
            complete.append(known)
        lines.append(
            [
                name + _mark(published),
                *map(_percent, values),
                f"{ours['n_seeds'] if ours else 0} / {len(others)} / {len(runs)}",
                str(ours["n_fits"] if ours else 0),
            ]
        )
    if complete:
        means = map(_percent, np.mean(complete, axis=0))
        title = f"mean of the {len(complete)} without {_COLLAPSED} that have all"
        lines.append([title, *means, "", ""])
    note = f"{_COLLAPSED} published number of collapsed labels: one class is left."
    return "\n".join([*markdown_table(_HEADER, lines), "", note, *_sources(rule)])


def _accuracies(
    results: Sequence[dict[str, Any]], method: str
) -> dict[str, list[float]]:
    """Return the accuracies of a method, over seeds, by dataset."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in results:
        if row["method"] == method and not row["error"]:
            found[row["dataset"]].append(float(row["accuracy"]))
    return found


def _sources(rule: Sequence[dict[str, Any]]) -> list[str]:
    """Say what the preset was run with."""
    if not rule:
        return []

    def distinct(column: str) -> str:
        values = {row[column] for row in rule}
        return ", ".join(sorted(values, key=float))

    sources = ", ".join(sorted({row["source"] for row in rule}))
    return [
        f"Paper preset: source {sources}, {distinct('epochs')} epochs, dropout "
        f"{distinct('dropout')}, n_segments {distinct('n_segments')}."
    ]


def fill_block(text: str, block: str) -> str:
    r"""Replace what stands between the marks `BEGIN` and `END`.

    Parameters
    ----------
    text : str
        Document.
    block : str
        What is to stand there.

    Returns
    -------
    str
        The document.

    Raises
    ------
    ValueError
        If the marks do not stand there once each, in this order.

    Examples
    --------
    >>> from docs.studies.paper.document import BEGIN, END, fill_block
    >>> print(fill_block(f"before\n{BEGIN}\nold\n{END}\nafter", "new"))
    before
    <!-- begin table -->
    <BLANKLINE>
    new
    <BLANKLINE>
    <!-- end table -->
    after
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(
            f"the document must have {BEGIN} and, after it, {END}, once each; put them "
            "where the table is to stand."
        )
    return f"{before}{BEGIN}\n\n{block}\n\n{END}{after}"


def write_table(
    rules: Sequence[Path], results: Sequence[Path], output: Path | None = None
) -> str:
    """Return the table and put it into a document.

    Parameters
    ----------
    rules : sequence of Path
        CSV files of `run_paper_rule`, which may share the work.
    results : sequence of Path
        CSV files of `run_accuracy`.
    output : Path, default=None
        Document with the marks `BEGIN` and `END`; it is replaced.

    Returns
    -------
    str
        The table.

    Raises
    ------
    FileNotFoundError
        If a file is not there.
    ValueError
        If a file is another table, or the document has no marks.
    """
    table = reproduction_table(read_rule(rules), read_results(results))
    if output is not None:
        text = fill_block(output.read_text(encoding="utf-8"), table)
        write_bytes(output, text.encode())
    return table
