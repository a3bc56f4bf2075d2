# SPDX-License-Identifier: Apache-2.0
"""What to believe where there are few series?

Draws some series of each class from training parts in UCR layout and scores the label
mapping on the other series of the part; test parts are not opened. ::

    python -m docs.studies.few_rows single --data ../shared/ucr
    python -m docs.studies.few_rows penalties --data ../shared/ucr

The first draws one series of each class, where leave-one-out, which otherwise chooses
penalty and temperature, has nothing to choose by, and writes `single-rows.csv`. The
second ends the grid of penalties at several values and writes `few-rows.csv`.
"""

import argparse
from pathlib import Path

from docs.studies.few_rows.penalties import score_largest_penalties, score_single_rows

_STUDIES = {
    "single": (score_single_rows, "single-rows.csv"),
    "penalties": (score_largest_penalties, "few-rows.csv"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run one of the two studies."""
    parser = argparse.ArgumentParser("python -m docs.studies.few_rows")
    parser.add_argument("study", choices=_STUDIES)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--output", type=Path, metavar="FILE.csv")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    score, name = _STUDIES[options.study]
    output = options.output or Path(__file__).with_name(name)
    for row in score(options.data, output, options.seed)[:5]:
        print(", ".join(f"{key} {value}" for key, value in row.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
