# SPDX-License-Identifier: Apache-2.0
"""Tables and figures from result files of the accuracy benchmark."""

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sklearn_v2s.benchmark.accuracy import COLUMNS
from sklearn_v2s.benchmark.comparison import Comparison, compare
from sklearn_v2s.benchmark.figures import (
    draw_critical_difference,
    draw_pairwise_scatter,
)
from sklearn_v2s.benchmark.markdown import markdown_table
from sklearn_v2s.benchmark.results import merge_files, write_rows
from sklearn_v2s.runtime.tensor_file import write_bytes

__all__ = ["read_results", "write_report"]

# Entries of `versions` that are no versions.
_NOT_VERSIONS = {"date", "machine", "cores", "threads"}
_SHAPE = ("n_train", "n_test", "length", "n_classes")


def read_results(paths: Sequence[Path]) -> list[dict[str, str]]:
    """Read result files.

    Parameters
    ----------
    paths : sequence of Path
        CSV files of `run_accuracy`. A run that is in several counts once, as the last
        file has it, but a failed one never replaces another.

    Returns
    -------
    list of dict of str to str
        Rows.

    Raises
    ------
    FileNotFoundError
        If a file is not there.
    ValueError
        If a file has other columns.
    """
    return merge_files(
        paths, COLUMNS, lambda row: (row["method"], row["dataset"], row["seed"])
    )


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def _code(method: str) -> str:
    return f"`{method}`"


def _summary_lines(comparison: Comparison) -> list[str]:
    lines = []
    for row in comparison.summary():
        is_reference = row["method"] == comparison.reference
        versus = f"{row['wins']} / {row['ties']} / {row['losses']}"
        lines.append(
            [
                _code(row["method"]),
                *(f"{row[key]:.4f}" for key in ("accuracy", "balanced_accuracy")),
                *(f"{row[key]:.4f}" for key in ("log_loss", "ece")),
                f"{row['mean_rank']:.2f}",
                "–" if is_reference else versus,
                _p(row["p"]),
                _p(row["p_holm"]),
                f"{row['total_seconds']:.1f}",
                f"{row['peak_memory_mib']:.0f}",
            ]
        )
    header = (
        "method", "accuracy", "balanced accuracy", "log-loss", "ECE", "mean rank",
        "wins / ties / losses", "p", "p (Holm)", "fit + predict, s", "peak memory, MiB",
    )  # fmt: skip
    return markdown_table(header, lines)


def _pairwise_lines(comparison: Comparison) -> list[str]:
    return markdown_table(
        ("method", "against", "wins / ties / losses", "p", "p (Holm)"),
        [
            [
                _code(row["method"]),
                _code(row["other"]),
                f"{row['wins']} / {row['ties']} / {row['losses']}",
                _p(row["p"]),
                _p(row["p_holm"]),
            ]
            for row in comparison.pairwise()
        ],
    )


def _dataset_rows(comparison: Comparison) -> list[dict[str, Any]]:
    names = sorted([*comparison.datasets, *comparison.left_out])
    return [
        {
            "dataset": name,
            **comparison.shapes[name],
            **{
                method: comparison.means[method, name]["accuracy"]
                if (method, name) in comparison.means
                else ""
                for method in comparison.methods
            },
        }
        for name in names
    ]


def _dataset_lines(comparison: Comparison) -> list[str]:
    lines = []
    for row in _dataset_rows(comparison):
        values = [row[method] for method in comparison.methods]
        best = max(value for value in values if value != "")
        lines.append(
            [
                str(row["dataset"]),
                *(str(row[key]) for key in _SHAPE),
                *(
                    "–"
                    if value == ""
                    else f"{'**' * (value == best)}{value:.4f}{'**' * (value == best)}"
                    for value in values
                ),
            ]
        )
    header = ("dataset", "train", "test", "length", "classes")
    return markdown_table((*header, *map(_code, comparison.methods)), lines)


def _control_lines(comparison: Comparison) -> list[str]:
    lines = []
    for control in comparison.controls:
        names = [data for method, data in comparison.means if method == control]
        means = [comparison.means[control, name] for name in names]
        chance = [1 / int(comparison.shapes[name]["n_classes"]) for name in names]
        lines.append(
            [
                _code(control),
                str(len(names)),
                *(
                    f"{np.mean([mean[key] for mean in means]):.4f}"
                    for key in ("accuracy", "balanced_accuracy", "log_loss")
                ),
                f"{np.mean(chance):.4f}",
            ]
        )
    header = (
        "method", "datasets", "accuracy", "balanced accuracy", "log-loss",
        "1 / number of classes",
    )  # fmt: skip
    return markdown_table(header, lines)


def _environment_lines(
    rows: Sequence[dict[str, str]], comparison: Comparison
) -> list[str]:
    shown = {*comparison.methods, *comparison.controls}
    rows = [row for row in rows if row["method"] in shown and not row["error"]]

    def distinct(values: Sequence[str]) -> str:
        return ", ".join(dict.fromkeys(values))

    versions: dict[str, list[str]] = {}
    for row in rows:
        for package, number in json.loads(row["versions"]).items():
            if package not in _NOT_VERSIONS:
                versions.setdefault(package, []).append(str(number))
    dates = sorted({row["date"] for row in rows})
    seeds = {name: comparison.seeds[name] for name in sorted(shown)}
    threads = sorted({int(row["threads"]) for row in rows})
    all_seeds = sorted({seed for given in seeds.values() for seed in given})
    fewer = {name: given for name, given in seeds.items() if given != all_seeds}
    exceptions = "".join(
        f"; {_code(name)}: {', '.join(map(str, given))}"
        for name, given in fewer.items()
    )
    command = [
        "python", "-m", "sklearn_v2s", "benchmark", "accuracy",
        "--methods", *comparison.methods, *comparison.controls,
        "--seeds", *map(str, all_seeds),
        "--threads", *map(str, threads),
    ]  # fmt: skip
    return [
        f"- machine: {distinct([row['machine'] for row in rows])}",
        f"- threads of each run: {', '.join(map(str, threads))}",
        f"- seeds: {', '.join(map(str, all_seeds))}{exceptions}",
        f"- date: {' to '.join(dict.fromkeys([dates[0], dates[-1]]))}",
        "- versions: "
        + ", ".join(
            f"{name} {distinct(numbers)}" for name, numbers in sorted(versions.items())
        ),
        f"- runs: `{shlex.join(command)}` with `--data` and `--output`",
    ]


_NOTES = """\
Official splits; each score is a mean over seeds, then over datasets. Wins, ties and
losses are the method's against {reference} by accuracy; p is of the two-sided Wilcoxon
signed-rank test of that. Seconds are sums over the datasets. They leave out imports,
compilation (every method is fitted once on made-up series before the clock starts) and
the calibration of probabilities. Peak memory is the most that fit and prediction took
beyond imports and data, on any dataset.

Classifiers that only have decision scores, as the ridge heads of the ROCKET family,
get their log-loss and ECE from a softmax of these scores with a temperature fitted by
cross-validation on the training part; their predictions are unchanged. `1nn-dtw` gives
probabilities of 0 and 1, so that its log-loss means little. ECE: top label, 15 bins of
equal width."""


def _markdown(
    rows: Sequence[dict[str, str]],
    comparison: Comparison,
    name: str,
    figures: dict[str, str],
    command: str,
) -> str:
    reference = _code(comparison.reference)
    lines = [
        f"# {name}: {len(comparison.methods)} methods on "
        f"{len(comparison.datasets)} datasets",
        "",
        *_environment_lines(rows, comparison),
        *([f"- this report: `{command}`"] if command else []),
        "",
        _NOTES.format(reference=reference),
        "",
        "## Means",
        "",
        *_summary_lines(comparison),
        "",
    ]
    if comparison.left_out:
        lines += ["Left out, because not all methods have them:", ""]
        lines += [
            f"- {dataset}: not measured for {', '.join(map(_code, missing))}"
            for dataset, missing in comparison.left_out.items()
        ]
        lines.append("")
    failed = [row for row in rows if row["error"]]
    if failed:
        lines += ["Runs that failed:", ""]
        lines += [
            f"- {_code(row['method'])} on {row['dataset']}, seed {row['seed']}: "
            f"{row['error']}"
            for row in failed
        ]
        lines.append("")
    if len(comparison.methods) > 1:
        lines += ["## Pairs", "", *_pairwise_lines(comparison), ""]
    if comparison.controls:
        lines += [
            "## Controls",
            "",
            "Trained on permuted labels: balanced accuracy clearly above chance would "
            "mean that test labels leak.",
            "",
            *_control_lines(comparison),
            "",
        ]
    if figures:
        lines += ["## Figures", ""]
        lines += [f"![{title}]({file})\n" for file, title in figures.items()]
    lines += ["## Accuracy by dataset", "", *_dataset_lines(comparison), ""]
    return "\n".join(lines)


def _rounded(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            key: float(f"{value:.6g}") if isinstance(value, float) else value
            for key, value in row.items()
        }
        for row in rows
    ]


def _slug(method: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", method).strip("-.")


def write_report(
    results: Sequence[Path],
    output: Path,
    name: str,
    methods: Sequence[str] = (),
    reference: str = "v2s",
    command: str = "",
) -> list[Path]:
    """Write tables and figures about result files.

    Parameters
    ----------
    results : sequence of Path
        CSV files of `run_accuracy`.
    output : Path
        Folder to write to.
    name : str
        Beginning of the names of the files: ``<name>.md``, ``<name>-summary.csv``,
        ``<name>-datasets.csv``, ``<name>-cd.png`` (with three methods or more) and
        ``<name>-<method>.png`` for each method but the reference.
    methods : sequence of str, default=()
        Methods to compare; empty means all but those with shuffled labels.
    reference : str, default="v2s"
        The method that the others are tested against.
    command : str, default=""
        What was called, to be named in the report.

    Returns
    -------
    list of Path
        Files that were written.

    Raises
    ------
    FileNotFoundError
        If a result file is not there.
    ImportError
        If aeon or matplotlib is missing.
    ValueError
        If `name` is a path, a method is unknown, or no dataset is shared by all.
    """
    if Path(name).name != name:
        raise ValueError(
            f"name={name!r} must be the beginning of a file name; the folder is output."
        )
    rows = read_results(results)
    comparison = compare(rows, methods, reference)
    images: dict[str, bytes] = {}
    titles: dict[str, str] = {}
    diagram = draw_critical_difference(comparison)
    if diagram is not None:
        images[f"{name}-cd.png"] = diagram
        titles[f"{name}-cd.png"] = "Mean ranks; bars join what does not differ at 0.05"
    for method in comparison.methods:
        if method != reference:
            file = f"{name}-{_slug(method)}.png"
            if file in images:
                # Two settings of a class may differ in punctuation only.
                file = f"{name}-{_slug(method)}-{len(images)}.png"
            images[file] = draw_pairwise_scatter(comparison, method)
            titles[file] = f"Accuracy of {reference} against {method}"
    for file, content in images.items():
        write_bytes(output / file, content)
    summary, by_dataset = _rounded(comparison.summary()), _dataset_rows(comparison)
    write_rows(output / f"{name}-summary.csv", list(summary[0]), summary)
    write_rows(output / f"{name}-datasets.csv", list(by_dataset[0]), by_dataset)
    text = _markdown(rows, comparison, name, titles, command)
    write_bytes(output / f"{name}.md", text.encode())
    tables = [f"{name}.md", f"{name}-summary.csv", f"{name}-datasets.csv"]
    return [output / file for file in [*tables, *images]]
