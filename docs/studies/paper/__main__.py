# SPDX-License-Identifier: Apache-2.0
"""What of the Voice2Series paper can be reproduced, and what cannot?

Findings about the published numbers, each a small table; see docs/reproduction.md. ::

    python -m docs.studies.paper labels --data ../shared/ucr
    python -m docs.studies.paper table2 --data ../shared/ucr
    python -m docs.studies.paper lemma
    python -m docs.studies.paper unfrozen
    python -m docs.studies.paper rule --data ../shared/ucr
    python -m docs.studies.paper table --paper-rule FILE.csv --results FILE.csv

Each writes what it prints with ``--output``; the files are beside this script.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docs.studies.paper.finding import Finding


def main(arguments: list[str] | None = None) -> int:
    """Show one of the findings."""
    parser = argparse.ArgumentParser("python -m docs.studies.paper")
    findings = parser.add_subparsers(dest="finding", required=True)
    labels = _add_finding(
        findings, "labels", "what the released label code makes of labels", _labels
    )
    labels.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder in UCR layout, to fit real data",
    )
    labels.add_argument(
        "--datasets",
        nargs="+",
        default=[],
        metavar="NAME",
        help="with the labels -1 and 1 (default: those of the paper that DIR has)",
    )
    labels.add_argument("--seed", type=int, default=0)
    table2 = _add_finding(
        findings, "table2", "recompute what the paper derives from Table 2", _table2
    )
    table2.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder in UCR layout, to count the classes of the test parts",
    )
    lemma = _add_finding(
        findings, "lemma", "Lemma 1, Theorem 1 and sliced distances in numbers", _lemma
    )
    lemma.add_argument("--seed", type=int, default=0)
    unfrozen = _add_finding(
        findings, "unfrozen", "whether a fit changes the source", _unfrozen
    )
    unfrozen.add_argument("--source", default="attrnn")
    unfrozen.add_argument("--epochs", type=int, default=2)
    unfrozen.add_argument("--seed", type=int, default=0)
    table = findings.add_parser(
        "table",
        help="Table 2 beside our results, into docs/reproduction.md",
        description="Compare the paper's Table 2 with our results. Cells "
        "without a result say so.",
    )
    table.add_argument(
        "--paper-rule",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE.csv",
        help="of the finding rule; several may share the work",
    )
    table.add_argument(
        "--results",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE.csv",
        help="of benchmark accuracy; the method v2s is read",
    )
    table.add_argument(
        "--output",
        type=Path,
        metavar="FILE.md",
        help="document with the marks of the table, which is replaced there",
    )
    table.set_defaults(run=_table)
    _add_rule(findings)
    options = parser.parse_args(arguments)
    return options.run(options)


def _add_finding(
    findings: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    text: str,
    examine: "Callable[[argparse.Namespace], Finding]",
) -> argparse.ArgumentParser:
    parser = findings.add_parser(name, help=text, description=text.capitalize() + ".")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="also write a .csv or .json file"
    )
    parser.set_defaults(run=_show, examine=examine)
    return parser


def _show(options: argparse.Namespace) -> int:
    from docs.studies.paper.finding import write_finding

    finding: Finding = options.examine(options)
    print(finding.markdown())
    if options.output is not None:
        write_finding(finding, options.output)
    return 0


def _labels(options: argparse.Namespace) -> "Finding":
    from docs.studies.paper.labels import examine_labels
    from sklearn_v2s.classifier import V2SClassifier

    classifier = V2SClassifier(random_state=options.seed)
    return examine_labels(classifier, options.data, options.datasets, options.seed)


def _table2(options: argparse.Namespace) -> "Finding":
    from docs.studies.paper.table2 import examine_table2

    return examine_table2(options.data)


def _lemma(options: argparse.Namespace) -> "Finding":
    from docs.studies.paper.theory import examine_theory

    return examine_theory(options.seed)


def _unfrozen(options: argparse.Namespace) -> "Finding":
    from docs.studies.paper.unfrozen import examine_freezing

    return examine_freezing(options.source, options.epochs, options.seed)


def _table(options: argparse.Namespace) -> int:
    from docs.studies.paper.document import write_table

    print(write_table(options.paper_rule, options.results, options.output))
    return 0


def _add_rule(
    findings: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    parser = findings.add_parser(
        "rule",
        help="the paper preset, its best epoch and setting CHOSEN ON TEST DATA",
        description="Fit the paper preset over a grid and take the best test accuracy "
        "of all epochs and settings, as the released code does. That number is CHOSEN "
        "ON TEST DATA and used nowhere else. The same fits give an honest number: "
        "epoch and setting with the least loss on a validation part of the training "
        "data. Rows already in the output are kept.",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--datasets",
        nargs="+",
        default=[],
        metavar="NAME",
        help="default: those of the paper that DIR has",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).with_name("paper-rule.csv"),
        metavar="FILE.csv",
    )
    parser.add_argument(
        "--dropouts",
        nargs="+",
        type=float,
        default=[],
        metavar="P",
        help="default: 0 0.1 0.2 0.3 0.4",
    )
    parser.add_argument(
        "--segments",
        nargs="+",
        type=int,
        default=[],
        metavar="M",
        help="numbers of replicas (default: 1 to 10)",
    )
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--source", default="attrnn")
    parser.add_argument("--threads", type=int, help="threads of torch")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=_run_rule)


def _run_rule(options: argparse.Namespace) -> int:
    import torch

    from docs.studies.paper.document import rule_table
    from docs.studies.paper.rule import DROPOUTS, SEGMENTS, run_paper_rule

    if options.threads:
        torch.set_num_threads(options.threads)
    rows = run_paper_rule(
        options.data,
        options.datasets,
        options.seeds,
        options.output,
        options.dropouts or DROPOUTS,
        options.segments or SEGMENTS,
        options.epochs,
        options.source,
        progress=not options.quiet,
    )
    failed = [row for row in rows if row["error"]]
    for row in failed:
        print(
            f"{row['dataset']}, seed {row['seed']}, dropout {row['dropout']}, "
            f"n_segments {row['n_segments']}: {row['error']}"
        )
    print(rule_table(rows))
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
