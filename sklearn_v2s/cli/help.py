# SPDX-License-Identifier: Apache-2.0
"""How the help of a command is laid out."""

import argparse

__all__ = ["HelpFormatter"]


class HelpFormatter(argparse.HelpFormatter):
    r"""Wrap descriptions; leave text that has lines of its own, such as examples.

    Examples
    --------
    >>> import argparse
    >>> from sklearn_v2s.cli.help import HelpFormatter
    >>> parser = argparse.ArgumentParser(
    ...     prog="p", epilog="a\n  b", formatter_class=HelpFormatter
    ... )
    >>> parser.format_help().endswith("a\n  b\n")
    True
    """

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)
