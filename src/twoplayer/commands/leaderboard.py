"""The leaderboard of a sweep: what its runs have scored so far, over seeds."""

import csv
import json
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from twoplayer.commands.rows import Row, boards, find, named, reference_of, score_names
from twoplayer.commands.tables import Board, board, compared, mean, values
from twoplayer.errors import ConfigurationError
from twoplayer.paths import command, override, replacing

log = logging.getLogger(__name__)

FILE, CSV = "leaderboard.md", "leaderboard.csv"
WIDTH = 140
"""Of a table that goes into a file or a pipe, which have no width."""


class Ranking(NamedTuple):
    """One table of a sweep."""

    heading: str
    """What sets it apart from the others; empty if it is the only one."""
    rows: list[Row]
    reference: Row | None
    board: Board


def write(sweep: Path, baseline: str | None = None) -> list[Ranking]:
    """Write leaderboard.md and leaderboard.csv into the folder of a sweep; returns its tables.

    A table with the row `baseline` shows the differences to it; `likely_baseline` is the default.
    If the runs cannot be compared, there is a warning, and no table.
    """
    try:
        found = boards(find([str(sweep)]))
    except ConfigurationError as error:
        if any(sweep.glob("*/summary.json")):
            log.warning("no leaderboard: %s", error)
        return []
    tables, baseline = [], baseline or likely_baseline([rows for _, rows in found])
    for heading, rows in found:
        reference = reference_of(rows, baseline)
        tables.append(Ranking(heading, rows, reference, board(rows, reference)))
    parts = [text for table in tables for text in (f"**{table.heading}**" if table.heading else "", table.board.markdown()) if text]
    with replacing(sweep / FILE) as place:
        place.write_text("\n\n".join(parts) + "\n")
    lines = [line for table in tables for line in _lines(table)]
    with replacing(sweep / CSV) as place, place.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for line in lines for name in line)))
        writer.writeheader()
        writer.writerows(lines)
    return tables


def likely_baseline(tables: Sequence[Sequence[Row]]) -> str | None:
    """What the rows may be compared with: the value that is only in the row of the first job.

    None if there is one row, or no such value that can be written without quotes.
    """
    titles = [row.title for row in tables[0]] if tables else []
    words = titles[0].split() if len(titles) > 1 else []
    plain = [value for word in words if re.fullmatch(r"[\w.-]+", value := word.partition("=")[2])]
    return next((value for value in plain if named(titles, value) == 0), None)


def next_commands(sweep: Path, baseline: str | None) -> list[str]:
    """The commands that show the runs of a sweep again, against a baseline if there is one."""
    words = [override("runs", sweep), *([f"baseline={baseline}"] if baseline else [])]
    return [command(script, *words) for script in ("compare", "report")]


def _lines(table: Ranking) -> Iterator[dict[str, Any]]:
    """A line per row and score: its middle, its interval, and the value of each seed as JSON.

    The differences are those of the leading score.
    """
    names = score_names(table.rows)
    against = compared(table.rows, table.reference, names)
    for row in table.rows:
        states = [run.summary.get("status") for run in row.runs]
        for name in names:
            found = values(row, name, table.rows)
            if found is None:
                continue
            comparison = against.get(row.title) if name == names[0] else None
            difference = comparison.difference if comparison else None
            low, high = found.estimate.interval or (None, None)
            lowest, highest = (difference and difference.interval) or (None, None)
            yield {
                "table": table.heading,
                "row": row.title,
                "score": name,
                "better": found.better,
                "interquartile_mean": found.estimate.value,
                "low": low,
                "high": high,
                "floor": found.score.floor,
                "seeds": len(row.runs),
                "finished": states.count("finished"),
                "failed": states.count("failed"),
                "values": json.dumps([*found.by_seed.values()]),
                "baseline": table.reference.title if table.reference else None,
                "difference": difference and difference.value,
                "difference_low": lowest,
                "difference_high": highest,
                "probability_of_improvement": comparison and comparison.probability,
                "images_per_second": mean(row, "images_per_second"),
            }


def show(tables: Sequence[Ranking]) -> None:
    """Print the tables to the terminal."""
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else WIDTH)
    for heading, _, _, each in tables:
        table = Table(box=None, pad_edge=False, title=heading or None, title_justify="left")
        for number, column in enumerate(each.columns):
            table.add_column(Text(column.replace("`", "")), justify="right" if number else "left", overflow="fold")
        for cells in each.lines:
            table.add_row(*(Text(cell.replace("`", "")) for cell in cells))
        console.print(table)
        console.print(" ".join(each.below.split()))
