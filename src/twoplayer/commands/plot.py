"""Drawing the diagnostics sheet of a run, or of several runs over each other."""

from pathlib import Path
from typing import Annotated

from annotated_types import MinLen

from twoplayer.callbacks.diagnostics import SHEET, sheet
from twoplayer.commands.tables import PLAIN, Row, Run, find, name_rows
from twoplayer.errors import ConfigurationError
from twoplayer.paths import make_folder, shown
from twoplayer.storage.run_folder import read_rows

MOST = 10


def plot(*, run: str | Annotated[list[str], MinLen(1)], output: Annotated[str, MinLen(1)] | None) -> None:
    """Write a sheet of what runs have logged, and print its path.

    `run` names run folders, or folders of runs; a run that is still going is drawn as far as it is.
    Raises ConfigurationError if there is no run, or if there are more than can be told apart.
    """
    found = find([run] if isinstance(run, str) else list(run))
    if len(found) > MOST:
        raise ConfigurationError(f"run={run}: {len(found)} runs cannot be told apart in one picture; name {MOST} or fewer")
    named = [(_title(row, each), each) for row in name_rows(found) for each in row.runs]
    named = named if len(found) > 1 else [("", found[0])]
    rows = {title: read_rows(each.folder, each.summary.get("images_seen") or 10**18) for title, each in named}
    if not any(rows.values()):
        raise ConfigurationError(f"run={run}: nothing has been logged yet")
    path = Path(output) if output else found[0].folder / SHEET if len(found) == 1 else Path("outputs") / SHEET
    make_folder("output", path.parent)
    sheet(rows, {title: each.summary for title, each in named}).save(path)
    print(shown(path))


def _title(row: Row, run: Run) -> str:
    """What distinguishes the row, and the folder if the row has several runs or no name."""
    if row.title == PLAIN:
        return run.folder.name
    return f"{row.title} ({run.folder.name})" if len(row.runs) > 1 else row.title
