# SPDX-License-Identifier: Apache-2.0
"""The commands ``v2s benchmark``."""

import argparse
import shlex
from pathlib import Path

from sklearn_v2s.benchmark.methods import METHODS
from sklearn_v2s.benchmark.paper.commands import add_paper, add_paper_rule

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
    _add_defaults(actions)
    _add_few_rows(actions)
    _add_accuracy(actions)
    _add_report(actions)
    _add_speed(actions)
    _add_sources(actions)
    add_paper(actions)
    add_paper_rule(actions)


def _add_folder_and_table(parser: argparse.ArgumentParser) -> None:
    """Add the options of an experiment on a folder of datasets, with one seed."""
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.csv")
    parser.add_argument("--seed", type=int, default=0)


def _add_defaults(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    parser = actions.add_parser(
        "defaults",
        help="cross-validate the settings that the defaults were chosen among",
        description="Cross-validate settings on the training parts of datasets in UCR "
        "layout; test parts are not opened. Rows already in the output are kept.",
    )
    _add_folder_and_table(parser)
    parser.add_argument("--datasets", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--settings", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="threads of torch")
    parser.set_defaults(run=_cross_validate)


def _cross_validate(options: argparse.Namespace) -> int:
    import torch

    from sklearn_v2s.benchmark.selection import (
        CANDIDATES,
        cross_validate_settings,
        summarise,
    )

    if options.threads:
        torch.set_num_threads(options.threads)
    unknown = sorted(set(options.settings) - set(CANDIDATES))
    if unknown:
        raise ValueError(
            f"--settings {unknown}: unknown; choose among {sorted(CANDIDATES)}."
        )
    rows = cross_validate_settings(
        {name: CANDIDATES[name] for name in options.settings or CANDIDATES},
        options.data,
        options.output,
        datasets=options.datasets,
        n_folds=options.folds,
        seed=options.seed,
    )
    print(summarise(rows))
    return 0


def _add_few_rows(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    for name, judge, text, description in (
        (
            "single-rows",
            _judge_single_rows,
            "judge penalties and temperatures for one series of each class",
            "Draw one series of each class from training parts in UCR layout and judge "
            "the label mapping by the part's other series.",
        ),
        (
            "few-rows",
            _judge_largest_penalties,
            "judge how large penalties may be where there are few series",
            "Draw some series of each class from training parts in UCR layout, end the "
            "grid of penalties at several values, and judge the label mapping by the "
            "part's other series.",
        ),
    ):
        parser = actions.add_parser(name, help=text, description=description)
        _add_folder_and_table(parser)
        parser.set_defaults(run=judge)


def _judge_single_rows(options: argparse.Namespace) -> int:
    from sklearn_v2s.benchmark.few_rows import judge_single_rows

    for row in judge_single_rows(options.data, options.output, options.seed)[:5]:
        print(
            f"penalty {row['penalty']}, temperature {row['temperature']}: log-loss "
            f"{row['log_loss_beyond_even']} beyond even probabilities, accuracy "
            f"{row['accuracy']}"
        )
    return 0


def _judge_largest_penalties(options: argparse.Namespace) -> int:
    from sklearn_v2s.benchmark.few_rows import judge_largest_penalties

    for row in judge_largest_penalties(options.data, options.output, options.seed):
        print(
            f"series of a class: {row['series_of_class']}, penalties up to "
            f"{row['largest_penalty']}: accuracy {row['accuracy']}, log-loss "
            f"{row['log_loss']}"
        )
    return 0


def _add_sources(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    parser = actions.add_parser(
        "sources",
        help="distance to speech and accuracy of source models",
        description="Measure, for each dataset and source, how far reprogrammed series "
        "are from speech and how accurate the view of the paper is, as in the paper's "
        "Tables 3 and 4. Rows already in the output are kept.",
    )
    _add_folder_and_table(parser)
    parser.add_argument("--datasets", nargs="+", default=[], metavar="NAME")
    parser.add_argument(
        "--sources",
        nargs="+",
        default=["attrnn", "unet-attrnn", "wavebank"],
        metavar="NAME",
        help="(default: %(default)s)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=_measure_sources)


def _measure_sources(options: argparse.Namespace) -> int:
    from sklearn_v2s.benchmark.source_ranking import measure_sources, summarise_sources

    rows = measure_sources(
        options.data,
        options.output,
        options.sources,
        options.datasets,
        options.seed,
        progress=not options.quiet,
    )
    print(summarise_sources(rows))
    return 0


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


def _add_speed(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    parser = actions.add_parser(
        "speed",
        help="measure what things cost, beside what they would cost otherwise",
        description="Both sides of a measure run in turns in one process; a row has "
        "the ratio, both medians and the target. Rows already in the output are kept; "
        "measures that failed are tried again. A figure of the cost against number "
        "and length of series is written beside the table.",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE.csv",
        help="default: performance-DEVICE.csv in the present folder",
    )
    parser.add_argument(
        "--measures",
        nargs="+",
        default=[],
        metavar="NAME",
        help="step, parts, epoch, import, search, memory, scaling, rockets; "
        "default: all",
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder in UCR layout, for rockets"
    )
    parser.add_argument(
        "--datasets", nargs="+", default=[], metavar="NAME", help="default: all in DIR"
    )
    parser.add_argument(
        "--device", default="auto", help='as for V2SClassifier (default: "auto")'
    )
    parser.add_argument("--threads", type=int, default=1, help="of every library")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="factor of the sizes; below 1 a trial that says nothing about speed",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=_measure_speed)


def _measure_speed(options: argparse.Namespace) -> int:
    from sklearn_v2s.benchmark.speed import run_speed
    from sklearn_v2s.benchmark.speed.command import device_label
    from sklearn_v2s.benchmark.speed.measure import Setting
    from sklearn_v2s.runtime.devices import resolve_device

    setting = Setting(
        resolve_device(options.device),
        data=options.data,
        datasets=tuple(options.datasets),
        threads=options.threads,
        seed=options.seed,
        scale=options.scale,
    )
    output = options.output or Path(f"performance-{device_label(setting.device)}.csv")
    rows = run_speed(output, setting, options.measures, progress=not options.quiet)
    for row in rows:
        found = f"{row['ours']} {row['unit']}, ratio {row['ratio'] or '-'}"
        target = f" (target {row['target']}: {row['met']})" if row["target"] else ""
        print(f"{row['name']}: {row['error'] or found + target}")
    failed = [
        row for row in rows if row["error"] and not row["error"].startswith("skipped")
    ]
    return 1 if failed else 0
