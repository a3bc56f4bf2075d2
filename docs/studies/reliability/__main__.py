# SPDX-License-Identifier: Apache-2.0
"""Which faults of machines, files and settings does the package survive?

Damages files, limits memory and disks, kills trainings and draws random settings, and
counts what becomes of it. ::

    python -m docs.studies.reliability
    python -m docs.studies.reliability --only files --files 10000

Writes `reliability.json`, part by part, and the tables of `docs/reliability.md`. Parts
that are not run again stay as they are. Needs Linux.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from docs.studies.reliability.files import FORMATS, damage_files
from docs.studies.reliability.kills import kill_trainings
from docs.studies.reliability.limits import LIMITS, try_limit
from docs.studies.reliability.page import fill_page
from docs.studies.reliability.parameters import try_settings
from docs.studies.reliability.surroundings import SURROUNDINGS, try_surrounding
from sklearn_v2s.runtime.environment import describe_environment
from sklearn_v2s.runtime.tensor_file import write_bytes

_OUTPUT = Path(__file__).with_name("reliability.json")
_PAGE = Path(__file__).parents[2] / "reliability.md"

#: Name of a part of the result, and what makes it.
Parts = Iterator[tuple[str, Callable[[], dict[str, Any]]]]


def _files(options: argparse.Namespace) -> Parts:
    for name in options.formats:
        yield name, lambda name=name: damage_files(name, options.files, options.seed)


def _limits(options: argparse.Namespace) -> Parts:
    for name in LIMITS:
        yield name, lambda name=name: try_limit(name, options.limits, options.seed)


def _kills(options: argparse.Namespace) -> Parts:
    yield "v2s train", lambda: kill_trainings(options.kills, options.seed)


def _settings(options: argparse.Namespace) -> Parts:
    yield "V2SClassifier", lambda: try_settings(options.settings, options.seed)


def _surroundings(options: argparse.Namespace) -> Parts:
    for name in options.surroundings:
        yield name, lambda name=name: try_surrounding(name)


_FAMILIES: dict[str, Callable[[argparse.Namespace], Parts]] = {
    "files": _files,
    "limits": _limits,
    "kills": _kills,
    "settings": _settings,
    "surroundings": _surroundings,
}


def _run_family(family: str, options: argparse.Namespace) -> int:
    """Run a family of faults and write each part when it is there; count wrong ones."""
    wrong = 0
    for name, measure in _FAMILIES[family](options):
        start = time.perf_counter()
        found = measure()
        found["seconds"] = round(time.perf_counter() - start, 1)
        found["environment"] = describe_environment()
        # Read again: the file is written by each run for its own parts.
        result: dict[str, Any] = {}
        if options.output.is_file():
            result = json.loads(options.output.read_text(encoding="utf-8"))
        result.setdefault(family, {})[name] = found
        content = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
        write_bytes(options.output, content.encode())
        if options.output == _OUTPUT:
            page = fill_page(_PAGE.read_text(encoding="utf-8"), result)
            write_bytes(_PAGE, page.encode())
        print(f"{family}, {name}: {found['outcomes']}", flush=True)
        wrong += found["wrong"]
    return wrong


def main(arguments: list[str] | None = None) -> int:
    """Run the study; return 1 if anything went wrong."""
    parser = argparse.ArgumentParser("python -m docs.studies.reliability")
    parser.add_argument(
        "--only",
        nargs="+",
        default=list(_FAMILIES),
        choices=list(_FAMILIES),
        metavar="NAME",
        help=f"families of faults, of {', '.join(_FAMILIES)}",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=_OUTPUT,
        metavar="FILE.json",
    )
    parser.add_argument("--files", type=int, default=10_000, help="of each format")
    parser.add_argument(
        "--formats", nargs="+", default=list(FORMATS), choices=list(FORMATS)
    )
    parser.add_argument("--limits", type=int, default=100, help="tries of each limit")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--settings", type=int, default=1000)
    parser.add_argument(
        "--surroundings",
        nargs="+",
        default=list(SURROUNDINGS),
        choices=list(SURROUNDINGS),
        metavar="NAME",
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    wrong = sum([_run_family(family, options) for family in options.only])
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
