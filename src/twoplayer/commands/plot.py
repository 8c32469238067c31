"""Drawing the diagnostics sheet of a run, or of several runs over each other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from annotated_types import MinLen

from twoplayer.callbacks.diagnostics import SHEET, sheet
from twoplayer.commands.rows import PLAIN, Row, Run, find, name_rows
from twoplayer.errors import ConfigurationError
from twoplayer.paths import make_folder, shown
from twoplayer.storage.run_folder import read_rows

MOST = 10


def plot(*, run: str | Annotated[list[str], MinLen(1)], output: Annotated[str, MinLen(1)] | None) -> None:
    """Write a sheet of what runs have logged, and print its path.

    `run` names run folders, or folders of runs; a run that is still going is drawn as far as it is.
    Raises ConfigurationError if there is no run, or if there are more than can be told apart.
    """
    found = find(run, setting="run")
    if len(found) > MOST:
        raise ConfigurationError(f"run={run}: {len(found)} runs cannot be told apart in one picture; name {MOST} or fewer")
    folders = [each.folder.name for each in found]
    named = [(_title(row, each, folders), each) for row in name_rows(found) for each in row.runs]
    named = named if len(found) > 1 else [("", found[0])]
    rows = {title: read_rows(each.folder) for title, each in named}
    if not any(rows.values()):
        raise ConfigurationError(f"run={run}: nothing has been logged yet")
    path = Path(output) if output else found[0].folder / SHEET if len(found) == 1 else Path("outputs") / SHEET
    make_folder("output", path.parent)
    sheet(rows, {title: each.summary for title, each in named}).save(path)
    print(shown(path))


def _title(row: Row, run: Run, folders: Sequence[str]) -> str:
    """What distinguishes the row, and the folder if the row has several runs or no name."""
    folder = run.folder.name if folders.count(run.folder.name) == 1 else shown(run.folder)
    if row.title == PLAIN:
        return folder
    return f"{row.title} ({folder})" if len(row.runs) > 1 else row.title
