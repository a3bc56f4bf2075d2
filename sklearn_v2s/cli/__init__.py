# SPDX-License-Identifier: Apache-2.0
"""The command line: ``python -m sklearn_v2s`` and ``v2s``."""

import argparse
import sys
from collections.abc import Sequence

from sklearn_v2s import __version__
from sklearn_v2s.benchmark.commands import add_benchmark
from sklearn_v2s.cli.datasets import add_datasets
from sklearn_v2s.cli.models import add_evaluate, add_explain, add_predict
from sklearn_v2s.cli.pretrain import add_pretrain
from sklearn_v2s.cli.sources import add_sources
from sklearn_v2s.cli.train import add_train

__all__ = ["build_parser", "main"]

# What a shell reports of a program that Ctrl-C ended.
_INTERRUPTED = 130


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line.

    Returns
    -------
    argparse.ArgumentParser
        Its namespaces have ``run``, a function of the namespace that returns the exit
        code.

    Examples
    --------
    >>> from sklearn_v2s.cli import build_parser
    >>> build_parser().parse_args(["datasets", "list"]).action
    'list'
    """
    parser = argparse.ArgumentParser(
        prog="v2s",
        description="Voice2Series: time series classification by speech. "
        "'v2s COMMAND --help' shows the options of a command.",
    )
    parser.add_argument("--version", action="version", version=f"v2s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    for add in (
        add_train,
        add_predict,
        add_evaluate,
        add_explain,
        add_datasets,
        add_sources,
        add_pretrain,
        add_benchmark,
    ):
        add(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, default=None
        Without the program's name; None means those of the process.

    Returns
    -------
    int
        Exit code: 0 on success, 1 for an error that a user can mend, 2 for wrong usage,
        130 after Ctrl-C.
    """
    options = build_parser().parse_args(arguments)
    try:
        return options.run(options)
    except (ValueError, OSError, ImportError) as error:
        return _end(1, str(error) or type(error).__name__)
    except KeyboardInterrupt as error:
        return _end(_INTERRUPTED, str(error) or "interrupted")


def _end(code: int, message: str) -> int:
    """Say on one line of standard error why a command ends."""
    # scikit-learn writes some of its errors on several.
    lines = (line.strip() for line in message.splitlines())
    print("v2s:", *filter(None, lines), file=sys.stderr)
    return code
