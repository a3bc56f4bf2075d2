# SPDX-License-Identifier: Apache-2.0
"""What does it cost, beside what it would cost otherwise?

Both sides of a measure run in turns in one process, after a warm-up; a row has the
ratio, both medians and the target. ::

    python -m docs.studies.speed --data ../shared/ucr
    python -m docs.studies.speed --measures step parts --threads 2

Writes `performance-DEVICE.csv`, row by row, with a table and a figure of the cost
against number and length of series beside it. Rows that are there already are kept;
measures that failed are tried again.
"""

import argparse
from pathlib import Path

from docs.studies.speed.command import FAMILIES, device_label, run_speed
from docs.studies.speed.measure import Setting
from sklearn_v2s.runtime.devices import resolve_device


def main(arguments: list[str] | None = None) -> int:
    """Run the study."""
    parser = argparse.ArgumentParser("python -m docs.studies.speed")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE.csv",
        help="default: performance-DEVICE.csv beside this script",
    )
    parser.add_argument(
        "--measures",
        nargs="+",
        default=[],
        metavar="NAME",
        choices=FAMILIES,
        help="default: all",
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
        help="factor of the sizes; below 1 a trial that does not measure speed",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    options = parser.parse_args(arguments)
    setting = Setting(
        resolve_device(options.device),
        data=options.data,
        datasets=tuple(options.datasets),
        threads=options.threads,
        seed=options.seed,
        scale=options.scale,
    )
    name = f"performance-{device_label(setting.device)}.csv"
    output = options.output or Path(__file__).with_name(name)
    rows = run_speed(output, setting, options.measures, progress=not options.quiet)
    for row in rows:
        measured = f"{row['ours']} {row['unit']}, ratio {row['ratio'] or '-'}"
        target = f" (target {row['target']}: {row['met']})" if row["target"] else ""
        print(f"{row['name']}: {row['error'] or measured + target}")
    failed = [
        row for row in rows if row["error"] and not row["error"].startswith("skipped")
    ]
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
