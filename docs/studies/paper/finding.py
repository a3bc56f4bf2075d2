# SPDX-License-Identifier: Apache-2.0
"""A finding about the paper: a few small tables, to be printed or written."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sklearn_v2s.benchmark.markdown import markdown_table
from sklearn_v2s.benchmark.results import write_rows
from sklearn_v2s.runtime.environment import describe_environment
from sklearn_v2s.runtime.tensor_file import write_bytes

__all__ = ["Finding", "Table", "write_finding"]

_COLUMNS = ("finding", "table", "row", "column", "value", "date", "environment")


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes
    ----------
    title : str
        What it shows.
    columns : list of str
        Titles of the columns; the first column names the rows.
    rows : list of list of str
        Cells.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        """Return the title and the table."""
        lines = [f"{self.title}:", "", *markdown_table(self.columns, self.rows)]
        return "\n".join(lines)


@dataclass(frozen=True)
class Finding:
    """Tables that belong together.

    Attributes
    ----------
    name : str
        As the command names it.
    tables : list of Table
        What was found.
    """

    name: str
    tables: list[Table]

    def markdown(self) -> str:
        """Return all tables."""
        return "\n\n".join(table.markdown() for table in self.tables)


def write_finding(finding: Finding, path: Path) -> None:
    """Write a finding, with versions, processor and date.

    Parameters
    ----------
    finding : Finding
        What to write.
    path : Path
        ``.json`` for the tables as they are, ``.csv`` for a row for each cell.

    Raises
    ------
    ValueError
        If `path` ends otherwise.
    """
    environment: dict[str, Any] = describe_environment()
    date = environment["date"]
    if path.suffix == ".json":
        content = {
            "finding": finding.name,
            "date": date,
            "environment": environment,
            "tables": [asdict(table) for table in finding.tables],
        }
        write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())
        return
    if path.suffix != ".csv":
        raise ValueError(f"output={path.name!r} must end in .csv or .json.")
    common = {
        "finding": finding.name,
        "date": date,
        "environment": json.dumps(environment),
    }
    rows = [
        {
            **common,
            "table": table.title,
            "row": row[0],
            "column": column,
            "value": value,
        }
        for table in finding.tables
        for row in table.rows
        for column, value in zip(table.columns[1:], row[1:], strict=True)
    ]
    write_rows(path, _COLUMNS, rows)
