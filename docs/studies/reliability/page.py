# SPDX-License-Identifier: Apache-2.0
"""The tables of ``docs/reliability.md``, from the result file."""

import re
from typing import Any

from sklearn_v2s.benchmark.markdown import markdown_table

__all__ = ["fill_page"]

_NOT_RUN = "not run"


def _number(value: int) -> str:
    return f"{value:,}"


def _rows(parts: dict[str, Any]) -> str:
    lines = [
        [
            name,
            _number(sum(found["outcomes"].values())),
            ", ".join(
                f"{_number(times)} {outcome}"
                for outcome, times in sorted(found["outcomes"].items())
            ),
            _number(found["wrong"]),
        ]
        for name, found in parts.items()
    ]
    return "\n".join(markdown_table(["what", "tried", "outcomes", "wrong"], lines))


def fill_page(text: str, result: dict[str, Any]) -> str:
    r"""Return the page with the tables that follow from the result file.

    Parameters
    ----------
    text : str
        The page; ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` enclose the table of
        each family of faults.
    result : dict
        Content of `reliability.json`.

    Returns
    -------
    str
        The page.

    Examples
    --------
    >>> from docs.studies.reliability.page import fill_page
    >>> found = {"v2s train": {"outcomes": {"killed": 2}, "wrong": 0}}
    >>> print(fill_page("<!-- begin kills -->\n<!-- end kills -->", {"kills": found}))
    <!-- begin kills -->
    <BLANKLINE>
    | what | tried | outcomes | wrong |
    |---|---|---|---|
    | v2s train | 2 | 2 killed | 0 |
    <BLANKLINE>
    <!-- end kills -->
    """

    def table(found: re.Match[str]) -> str:
        family = found[1]
        block = _rows(result[family]) if family in result else _NOT_RUN
        return f"<!-- begin {family} -->\n\n{block}\n\n<!-- end {family} -->"

    pattern = r"<!-- begin (\w+) -->.*?<!-- end \1 -->"
    return re.sub(pattern, table, text, flags=re.DOTALL)
