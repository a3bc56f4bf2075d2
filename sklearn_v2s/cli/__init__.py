# SPDX-License-Identifier: Apache-2.0
"""The command line: ``python -m sklearn_v2s`` and ``v2s``."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from sklearn_v2s import __version__

__all__ = ["build_parser", "main"]

# What a shell reports of a program that Ctrl-C ended, and of one whose reader left.
_INTERRUPTED, _NOBODY_READS = 130, 141

# Commands, where the options of each are, and its line in the list of commands.
_COMMANDS = {
    "train": ("cli.train", "train a classifier on labelled series"),
    "predict": ("cli.models", "classes of series and their probabilities, as CSV"),
    "evaluate": ("cli.models", "accuracy, log-loss, calibration and confusion matrix"),
    "explain": ("cli.models", "figure of what a prediction rests on"),
    "datasets": ("cli.datasets", "list and show datasets"),
    "sources": (
        "cli.sources",
        "list, evaluate, verify, import and fetch source models, or keep logits",
    ),
    "pretrain": ("cli.pretrain", "train a source model on a speech corpus"),
    "benchmark": ("benchmark.commands", "measure methods on real series"),
}


class _CommandParser(argparse.ArgumentParser):
    """A parser that gets its options when they are first needed.

    Those of some commands name what there is, as methods and architectures, and it
    takes seconds to import that; the list of commands does not wait for it.

    Parameters
    ----------
    module : str, default=None
        Below ``sklearn_v2s``, with a function ``fill_...`` named after the command.
        None: a parser that is filled by hand.
    """

    def __init__(self, *args: Any, module: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._module = module

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Fill the parser, and parse."""
        if self._module is not None:
            module = importlib.import_module(f"sklearn_v2s.{self._module}")
            self._module = None
            getattr(module, f"fill_{self.prog.split()[-1]}")(self)
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            # Here, not in the program's parser, so that the usage is the command's.
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return namespace, unknown


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
    parser = _CommandParser(
        prog="v2s",
        description="Voice2Series: time series classification by speech. "
        "'v2s COMMAND --help' shows the options of a command.",
    )
    parser.add_argument("--version", action="version", version=f"v2s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (module, text) in _COMMANDS.items():
        commands.add_parser(name, help=text, module=module)
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
        130 after Ctrl-C, 141 where the reader of the output went away.
    """
    options = build_parser().parse_args(arguments)
    try:
        code = options.run(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader closed the pipe, as head does. Python would flush the rest at exit
        # and print an error: it goes to the null device.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _NOBODY_READS
    except (ValueError, OSError, ImportError) as error:
        return _end(1, str(error) or type(error).__name__)
    except KeyboardInterrupt as error:
        return _end(_INTERRUPTED, str(error) or "interrupted")


def _end(code: int, message: str) -> int:
    """Print on one line of standard error why a command ends."""
    # scikit-learn writes some of its errors on several.
    lines = (line.strip() for line in message.splitlines())
    print("v2s:", *filter(None, lines), file=sys.stderr)
    return code
