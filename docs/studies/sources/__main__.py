# SPDX-License-Identifier: Apache-2.0
"""Does the distance to speech tell which source model is better?

Measures, for each dataset and source, how far reprogrammed series are from speech and
how accurate the view of the paper is, as in the paper's Tables 3 and 4. ::

    python -m docs.studies.sources --data ../shared/ucr

Writes `sources.csv`, row by row; rows that are there already are kept.
"""

import argparse
from pathlib import Path

from docs.studies.sources.ranking import measure_sources, summarise_sources


def main(arguments: list[str] | None = None) -> int:
    """Run the study."""
    parser = argparse.ArgumentParser("python -m docs.studies.sources")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).with_name("sources.csv"),
        metavar="FILE.csv",
    )
    parser.add_argument("--datasets", nargs="+", default=[], metavar="NAME")
    parser.add_argument(
        "--sources",
        nargs="+",
        default=["attrnn", "unet-attrnn", "wavebank"],
        metavar="NAME",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    options = parser.parse_args(arguments)
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


if __name__ == "__main__":
    raise SystemExit(main())
