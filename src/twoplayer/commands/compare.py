"""A Markdown table of runs, from their summary.json files, with some samples of each."""

import os
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from annotated_types import MinLen
from omegaconf import OmegaConf
from PIL import Image

from twoplayer.errors import ConfigurationError
from twoplayer.metrics import recorded
from twoplayer.runs.plan import FREE
from twoplayer.storage.run_folder import read_summary


class Run(NamedTuple):
    """A run, finished or not: its folder, the overrides that define it, and its summary.json."""

    folder: Path
    overrides: tuple[str, ...]
    summary: dict[str, Any]


def write_table(
    *,
    runs: str | Annotated[list[str], MinLen(1)],
    baseline: str | None,
    costs: bool,
    into: str | None,
    name: Annotated[str, MinLen(1)],
) -> None:
    """Write or print a table of these runs, the best by the leading score first.

    A row is named by the overrides that its run does not share with all others. A baseline adds a
    column of relative speeds, which compare only runs that had the machine to themselves. `costs`
    adds the images, minutes and images per second of each run, for runs of different lengths.

    Raises ConfigurationError if there are no runs, no such baseline or no markers for the table in
    the file, or if scores were computed by different protocols.
    """
    found = find([runs] if isinstance(runs, str) else list(runs))
    titles = name_rows(found)
    if baseline is not None and baseline not in titles:
        raise ConfigurationError(f"baseline={baseline}: there is no such row; available: {', '.join(titles)}")
    reference = None if baseline is None else found[titles.index(baseline)]
    names = score_names(found)
    refuse_protocols(found, titles)
    pictures = draw(found, titles, Path(into).parent / name) if into else [None] * len(found)
    rows = [
        row(run, title, names, reference, costs, os.path.relpath(picture, Path(into).parent) if into and picture else None)
        for run, title, picture in zip(found, titles, pictures, strict=True)
    ]
    order = sorted(range(len(found)), key=lambda index: _cost(found[index], names))
    columns = ["", *headers(found, names), *(["images", "minutes", "images/s"] if costs else []), *(["speed"] if reference else []), ""]
    table = "\n".join(
        [
            _line(columns),
            _line(["---"] * len(columns)),
            *(rows[index] for index in order),
            "",
            circumstances(found, names, reference, costs),
        ]
    )
    if into is None:
        print(table)
    else:
        insert(table, Path(into), name)


def find(folders: Sequence[str]) -> list[Run]:
    """All runs in these folders, each a run folder or a sweep folder."""
    found = []
    for folder in map(Path, folders):
        own = [folder] if (folder / "summary.json").is_file() else sorted(path.parent for path in folder.glob("*/summary.json"))
        if not own:
            raise ConfigurationError(f"runs={folder}: there is no run here; name the folder of a run or of a sweep")
        found += [Run(run, _overrides(run), read_summary(run)) for run in own]
    return found


def _overrides(run: Path) -> tuple[str, ...]:
    file = run / ".hydra" / "overrides.yaml"
    asked = map(str, OmegaConf.load(file)) if file.is_file() else []
    return tuple(override for override in asked if not override.lstrip("+~").startswith((*FREE, "+search", "search")))


def name_rows(runs: Sequence[Run]) -> list[str]:
    """For each run its overrides that are not common to all runs."""
    common = set.intersection(*(set(run.overrides) for run in runs)) if len(runs) > 1 else set()
    return [" ".join(override for override in run.overrides if override not in common) or "as it is" for run in runs]


def score_names(runs: Sequence[Run]) -> list[str]:
    """The names of all scores; first comes the leading score of the first run that has scores."""
    return list(dict.fromkeys(score.name for run in runs for score in recorded.read(run.summary)))


def refuse_protocols(runs: Sequence[Run], titles: Sequence[str]) -> None:
    """Raise ConfigurationError if scores of the same name were computed by different protocols.

    Scores of averaged and of raw weights are comparable.
    """
    first: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for run, title in zip(runs, titles, strict=True):
        for score in recorded.read(run.summary):
            if not score.protocol:
                continue
            other, others = first.setdefault(score.name, (title, score.protocol))
            for key in others:
                if key != "weights" and score.protocol.get(key) != others[key]:
                    raise ConfigurationError(
                        f"runs: the {score.name} of {title} is not comparable with that of {other}: {key} is {score.protocol.get(key)}, "
                        f"and {others[key]} there; compare runs that were scored with the same settings"
                    )


def headers(runs: Sequence[Run], names: Sequence[str]) -> list[str]:
    """The headers of the score columns; the leading score is also given relative to its floor."""
    limits = [score.limit for run in runs for score in recorded.read(run.summary) if score.name in names[:1]]
    first = [f"`{names[0]}`", f"times its {limits[0]}"] if names else ["status"]
    return [*first, *(f"`{name}`" for name in names[1:])]


def row(run: Run, title: str, names: Sequence[str], reference: Run | None, costs: bool, picture: str | None) -> str:
    """One row of the table; a run without the leading score shows its status instead."""
    found = {score.name: (score, score.value) for score in recorded.read(run.summary) if score.value is not None}
    cells = [recorded.digits(found[name][1]) if name in found else "" for name in names] or [""]
    cells[0] = cells[0] or str(run.summary.get("status", "unknown"))
    if names:
        cells.insert(1, found[names[0]][0].ratio(found[names[0]][1]) if names[0] in found else "")
    speed = run.summary.get("images_per_second")
    of_reference = reference and reference.summary.get("images_per_second")
    return _line(
        [
            f"`{title}`",
            *cells,
            *(_costs(run) if costs else []),
            *([f"{speed / of_reference:.2f}" if speed and of_reference else ""] if reference else []),
            f'<img src="{picture}" width="230">' if picture else "",
        ]
    )


def _costs(run: Run) -> list[str]:
    """The cells of what a run took: images, minutes of training, and images per second."""
    images, seconds, speed = (run.summary.get(key) or 0 for key in ("images_seen", "seconds", "images_per_second"))
    return [f"{images:,}", f"{seconds / 60:.1f}", f"{speed:,.0f}"]


def circumstances(runs: Sequence[Run], names: Sequence[str], reference: Run | None, costs: bool) -> str:
    """The text below the table: images, seeds, devices, precisions and floors.

    The images are left out if each row has its own.
    """
    images, seeds, devices, precisions = (
        sorted({str(run.summary.get(key)) if key != "images_seen" else f"{run.summary.get(key) or 0:,}" for run in runs})
        for key in ("images_seen", "seed", "device", "precision")
    )
    floors = ""
    for name in names:
        found = {(score.limit, score.floor) for run in runs for score in recorded.read(run.summary) if score.name == name and score.floor}
        if len(found) == 1:
            ((limit, value),) = found
            floors += f"; the {limit} {f'of {name} ' if len(names) > 1 else ''}is {recorded.digits(value)}"
    speed = reference and reference.summary.get("images_per_second")
    base = f"; a speed of 1 is {speed:,.0f} images a second" if speed else ""
    length = "" if costs else f"{' or '.join(images)} images, "
    text = f"{length}seed {', '.join(seeds)}, {' and '.join(devices)}, {' and '.join(precisions)}{base}{floors}."
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def _cost(run: Run, names: Sequence[str]) -> float:
    """The sort key: the leading score, negated if more is better; infinite without one."""
    for score in recorded.read(run.summary):
        if score.name in names[:1] and score.value is not None:
            return recorded.cost(score.value, score.better)
    return float("inf")


def draw(runs: Sequence[Run], titles: Sequence[str], folder: Path) -> list[Path | None]:
    """Save the first two rows of each run's last grid of samples as PNG; None without grids."""
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path | None] = []
    for run, title in zip(runs, titles, strict=True):
        grids = sorted((run.folder / "samples").glob("[0-9]*.png"))
        if not grids:
            files.append(None)
            continue
        with Image.open(grids[-1]) as grid:
            height = min(grid.width // 4, grid.height)
            rows = grid.crop((0, 0, grid.width, height)).resize((grid.width // 2, height // 2), Image.Resampling.LANCZOS)
        file = folder / f"{re.sub(r'[^a-z0-9]+', '_', title.lower()).strip('_')}.png"
        rows.save(file, optimize=True)
        files.append(file)
    return files


def insert(table: str, file: Path, name: str) -> None:
    """Replace the text between the markers of the table in the file."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    text = file.read_text() if file.is_file() else ""
    if begin not in text or end not in text.split(begin, 1)[1]:
        raise ConfigurationError(
            f"into={file}: the markers of the table are missing; put the lines {begin} and {end} where the table belongs"
        )
    before, rest = text.split(begin, 1)
    file.write_text(f"{before}{begin}\n{table}\n{end}{rest.split(end, 1)[1]}")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
