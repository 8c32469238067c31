"""A Markdown table of runs, with some samples of each."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from annotated_types import MinLen
from PIL import Image

from twoplayer import pictures
from twoplayer.callbacks.samples import FOLDER, grids
from twoplayer.commands.forest import CAPTION, forest_plot
from twoplayer.commands.rows import Row, boards, find, reference_of, refuse_baseline, study_of
from twoplayer.commands.tables import board
from twoplayer.errors import ConfigurationError
from twoplayer.storage.run_folder import read_config


def write_table(
    *,
    runs: str | Annotated[list[str], MinLen(1)],
    baseline: str | None,
    costs: bool,
    into: str | None,
    name: Annotated[str, MinLen(1)],
) -> None:
    """Write or print a table of these runs, the best by the leading score first.

    Runs that differ by their seeds alone are one row, with the interquartile mean of each score and
    its 95 % interval. A row is named by the overrides that its runs do not share with all others.
    Runs on other data, or with another budget, are in a table of their own. A baseline adds the
    relative speed, and with several seeds the difference to it; that of a study is the default.
    `costs` adds the images, minutes and images per second, and leaves runs of different budgets in
    one table.

    With `into`, a picture of the intervals is above a table of several seeds.

    Raises ConfigurationError if there are no runs, no such baseline or no markers for the table in
    the file, or if scores were computed by different protocols.
    """
    found, baseline = boards(find(runs), costs), baseline or study_of(runs).get("baseline")
    refuse_baseline(found, baseline)
    if into is not None:
        _refuse_page(Path(into), name)
    tables: list[str] = []
    for heading, rows in found:
        number_of_table = str(len(tables) or "")
        pictures = draw(rows, Path(into).parent / name, number_of_table) if into else [None] * len(rows)
        shown = [os.path.relpath(picture, Path(into).parent) if into and picture else None for picture in pictures]
        reference = reference_of(rows, baseline)
        above = [f"**{heading}**", ""] if heading else []
        if into and any(len(row.runs) > 1 for row in rows):
            above += _intervals(rows, reference, Path(into), Path(into).parent / name / f"intervals{number_of_table}.png")
        tables.append("\n".join([*above, board(rows, reference, costs, shown).markdown()]))
    if into is None:
        print("\n\n".join(tables))
    else:
        insert("\n\n".join(tables), Path(into), name)


def _intervals(rows: Sequence[Row], reference: Row | None, page: Path, path: Path) -> list[str]:
    """Draw the intervals of the rows; returns the lines that show the picture."""
    picture = forest_plot(rows, reference)
    if picture is None:
        return []
    picture.save(path, optimize=True)
    return [f"![{CAPTION}]({os.path.relpath(path, page.parent)})", ""]


def draw(rows: Sequence[Row], folder: Path, end: str) -> list[Path | None]:
    """Save the last samples of each row's first run as PNG, in files whose names have this end.

    Of a grid they are two lines. None without samples.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path | None] = []
    for row in rows:
        found = grids(row.runs[0].folder / FOLDER)
        if not found:
            files.append(None)
            continue
        with Image.open(found[max(found)]) as grid:
            size = (read_config(row.runs[0].folder).get("data") or {}).get("image_size")
            height = min(2 * pictures.row_height(size), grid.height) if size else grid.height
            strip = grid.crop((0, 0, grid.width, height)).resize((grid.width // 2, height // 2), Image.Resampling.LANCZOS)
        file = folder / f"{re.sub(r'[^a-z0-9]+', '_', row.title.lower()).strip('_')}{end}.png"
        strip.save(file, optimize=True)
        files.append(file)
    return files


def _markers(name: str) -> tuple[str, str]:
    return f"<!-- {name} -->", f"<!-- /{name} -->"


def _refuse_page(file: Path, name: str) -> str:
    """The text of a file. Raises ConfigurationError if it has no place for the table."""
    begin, end = _markers(name)
    text = file.read_text() if file.is_file() else ""
    if begin not in text or end not in text.split(begin, 1)[1]:
        raise ConfigurationError(
            f"into={file}: the markers of the table are missing; put the lines {begin} and {end} where the table belongs"
        )
    return text


def insert(table: str, file: Path, name: str) -> None:
    """Replace the text between the markers of the table in the file."""
    begin, end = _markers(name)
    text = _refuse_page(file, name)
    before, rest = text.split(begin, 1)
    file.write_text(f"{before}{begin}\n{table}\n{end}{rest.split(end, 1)[1]}")
