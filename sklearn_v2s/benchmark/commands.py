# SPDX-License-Identifier: Apache-2.0
"""The commands ``v2s benchmark``."""

import argparse
import shlex
from pathlib import Path

from sklearn_v2s.benchmark.methods import METHODS

__all__ = ["fill_benchmark"]


def fill_benchmark(parser: argparse.ArgumentParser) -> None:
    """Give the parser of ``v2s benchmark`` its actions and their options.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of the command.
    """
    parser.description = "Measure methods on real series."
    actions = parser.add_subparsers(dest="action", required=True)
    _add_accuracy(actions)
    _add_report(actions)


def _add_accuracy(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    parser = actions.add_parser(
        "accuracy",
        help="fit methods on training parts, score them on test parts",
        description="Fit methods on the official training parts of datasets and score "
        "them on the test parts: one row for each method, dataset and seed. Rows "
        "already in the output are kept; runs that failed are tried again.",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder in UCR layout; without it aeon finds or downloads --datasets",
    )
    parser.add_argument(
        "--datasets", nargs="+", default=[], metavar="NAME", help="default: all in DIR"
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        default=["v2s", "minirocket"],
        metavar="NAME",
        help=f"{', '.join(METHODS)}, or package.module:Class; each may be followed by "
        "a JSON object of parameters and by :shuffled-labels (default: %(default)s)",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.csv")
    parser.add_argument(
        "--jobs", type=int, default=1, help="child processes at the same time"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of each child")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=_measure_accuracy)


def _measure_accuracy(options: argparse.Namespace) -> int:
    from sklearn_v2s.benchmark.accuracy import run_accuracy

    rows = run_accuracy(
        options.methods,
        options.datasets,
        options.seeds,
        options.output,
        options.data,
        n_jobs=options.jobs,
        threads=options.threads,
        progress=not options.quiet,
    )
    asked = [row for row in rows if row["method"] in options.methods]
    failed = [row for row in asked if row["error"]]
    for row in failed:
        print(
            f"{row['method']} on {row['dataset']}, seed {row['seed']}: {row['error']}"
        )
    print(f"{options.output}: {len(asked)} runs, {len(failed)} failed")
    return 1 if failed else 0


def _add_report(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    parser = actions.add_parser(
        "report",
        help="tables and figures from results of benchmark accuracy",
        description="Average result files over seeds, test the methods against each "
        "other over the datasets that all of them have, and write tables and figures.",
    )
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULTS.csv")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--name", default="accuracy", help="beginning of file names")
    parser.add_argument(
        "--methods",
        nargs="+",
        default=[],
        metavar="NAME",
        help="default: all but those with shuffled labels",
    )
    parser.add_argument("--reference", default="v2s", metavar="NAME")
    parser.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> int:
    from sklearn_v2s.benchmark.report import write_report

    # Folders are a matter of the machine; files are named by their last part only.
    command = ["python", "-m", "sklearn_v2s", "benchmark", "report"]
    command += [path.name for path in options.results]
    command += ["--output", options.output.resolve().name, "--name", options.name]
    if options.methods:
        command += ["--methods", *options.methods]
    command += ["--reference", options.reference]
    for path in write_report(
        options.results,
        options.output,
        options.name,
        methods=options.methods,
        reference=options.reference,
        command=shlex.join(command),
    ):
        print(path)
    return 0
