# SPDX-License-Identifier: Apache-2.0
"""Tables in Markdown."""

from collections.abc import Sequence

__all__ = ["markdown_table"]


def markdown_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table.

    Parameters
    ----------
    header : sequence of str
        Titles of the columns.
    lines : sequence of sequence of str
        Cells, a sequence for each row.

    Returns
    -------
    list of str
        Header, rule and rows.

    Examples
    --------
    >>> from sklearn_v2s.benchmark.markdown import markdown_table
    >>> markdown_table(["a", "b"], [["1", "2"]])
    ['| a | b |', '|---|---|', '| 1 | 2 |']
    """
    return [
        f"| {' | '.join(header)} |",
        f"|{'---|' * len(header)}",
        *(f"| {' | '.join(line)} |" for line in lines),
    ]
