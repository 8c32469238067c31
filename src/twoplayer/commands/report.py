"""One HTML page about a sweep or a run, with all pictures in it, that opens from disk."""

import base64
import io
import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from annotated_types import MinLen
from jinja2 import Environment
from omegaconf import OmegaConf
from PIL import Image

from twoplayer import pictures, plots
from twoplayer.callbacks.diagnostics import SHEET
from twoplayer.callbacks.samples import FOLDER, PROGRESS, REAL, grids
from twoplayer.commands.forest import CAPTION as FOREST
from twoplayer.commands.forest import forest_plot
from twoplayer.commands.rows import Row, Run, boards, find, reference_of, refuse_baseline, score_names, study_of
from twoplayer.commands.sample import STATIONS, STEPS
from twoplayer.commands.study import TUNING
from twoplayer.commands.tables import board
from twoplayer.errors import TwoplayerError
from twoplayer.metrics import recorded
from twoplayer.metrics.intervals import interquartile_mean
from twoplayer.overrides import PLACE, sets, without
from twoplayer.paths import command, make_folder, quoted, shown
from twoplayer.runs.plan import SWEEP_FILE
from twoplayer.runs.saved import load
from twoplayer.settings import leaves, written
from twoplayer.storage import checkpoints
from twoplayer.storage.run_folder import SUMMARY, read_config, read_rows, read_summary

log = logging.getLogger(__name__)

WALKERS = 8
MOST_PICTURES = 60
"""Sample pictures in the wall; a larger sweep shows its first seeds."""


FAR_WORSE = 2.0
"""A run whose score at its end is so many times its best one has failed in between."""


class Figure(NamedTuple):
    """A picture as a data address, and what it shows."""

    source: str
    caption: str


def write_report(
    *,
    runs: str | Annotated[list[str], MinLen(1)],
    baseline: str | None,
    title: Annotated[str, MinLen(1)] | None,
    output: Annotated[str, MinLen(1)] | None,
) -> None:
    """Write the page, and print its path.

    It has the leaderboard with intervals, curves of the leading score, the referee's findings,
    samples of each run beside real images, what sets each row apart, the cost, and the commands.
    The page of a single run has its pictures instead of a leaderboard.

    Raises ConfigurationError if there are no runs or no such baseline, or if scores were computed
    by different protocols.
    """
    folders = [runs] if isinstance(runs, str) else list(runs)
    found, asked = find(folders), study_of(folders)
    baseline = baseline or asked.get("baseline")
    tables = boards(found)
    refuse_baseline(tables, baseline)
    single = len(found) == 1
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        resources.files("twoplayer.commands").joinpath("report.html.j2").read_text()
    )
    path = Path(output) if output else (Path(folders[0]) if len(folders) == 1 else Path("outputs")) / "report.html"
    make_folder("output", path.parent)
    path.write_text(
        page.render(
            title=title or asked.get("question") or (found[0].folder.name if single else _question(found)),
            summary=_summary(found, folders),
            single=single,
            boards=[_board(heading, rows, baseline, single) for heading, rows in tables],
            measures=_measures(found[0].summary) if single else [],
            findings=list(_findings(tables)),
            wall=[] if single else _wall(tables),
            pictures=_own_pictures(found[0].folder) if single else [],
            settings=_settings(tables, single),
            commands=_commands(folders, found),
        )
    )
    print(shown(path))


def _question(runs: Sequence[Run]) -> str:
    """What varies: `loss: hinge or minimax; optimizer.generator.lr: 0.001 or 0.002`."""
    choices: dict[str, list[str]] = defaultdict(list)
    common = set.intersection(*(set(run.overrides) for run in runs))
    for run in runs:
        for word in run.overrides:
            name, _, value = word.partition("=")
            if word not in common and value not in choices[name]:
                choices[name].append(value)
    return "; ".join(f"{name}: {' or '.join(chosen)}" for name, chosen in choices.items()) or "The same configuration, several times"


def _summary(runs: Sequence[Run], folders: Sequence[str]) -> str:
    """The cost of the runs, of what came before a rollback, and of a study's tuning."""
    finished = sum(run.summary.get("status") == "finished" for run in runs)
    before = [
        summary
        for folder in folders
        for path in Path(folder).glob(f"*/{SUMMARY}")
        if "rolled_back" in (summary := read_summary(path.parent))
    ]
    every = [*(run.summary for run in runs), *before]
    minutes = sum(summary.get("seconds") or 0 for summary in every) / 60
    images = sum(summary.get("images_seen") or 0 for summary in every)
    number = f"{len(runs)} runs, {finished} of them finished" if len(runs) > 1 else f"One run, {runs[0].summary.get('status', 'unknown')}"
    trials = [read_summary(path.parent) for folder in folders for path in Path(folder).glob(f"{TUNING}/*/{SUMMARY}")]
    tuned = sum(trial.get("seconds") or 0 for trial in trials) / 60
    tuning = f", and {tuned:,.1f} minutes of tuning" if trials else ""
    return f"{number}; {images:,} images in {minutes:,.1f} minutes of training{tuning}. Made by twoplayer."


def _board(heading: str, rows: list[Row], baseline: str | None, single: bool) -> dict[str, Any]:
    reference = reference_of(rows, baseline)
    table = board(rows, reference, costs=True)
    return {
        "heading": heading,
        "columns": [column.replace("`", "") for column in table.columns],
        "lines": [[cell.replace("`", "") for cell in line] for line in table.lines],
        "below": table.below.replace("\n", " "),
        "figures": [figure for figure in (None if single else _intervals(rows, reference), _curves(rows)) if figure is not None],
    }


def _intervals(rows: list[Row], reference: Row | None) -> Figure | None:
    picture = forest_plot(rows, reference)
    return None if picture is None else Figure(_address(picture), FOREST)


def _curves(rows: list[Row]) -> Figure | None:
    """The validation score over images, the middle of the seeds and its interval."""
    name = next(iter(score_names(rows)), None)
    if name is None:
        return None
    sheet = plots.figure(8.0, 4.0)
    axes = sheet.subplots()
    any_row, positive = False, True
    for row in rows:
        moments: dict[int, list[float]] = defaultdict(list)
        for run in row.runs:
            for logged in read_rows(run.folder):
                if isinstance(value := logged.get(f"{name}_validation"), float):
                    moments[logged["images_seen"]].append(value)
        points = [(images, interquartile_mean(found)) for images, found in sorted(moments.items()) if len(found) == len(row.runs)]
        if not points:
            continue
        any_row, positive = True, positive and all(estimate.value > 0 for _, estimate in points)
        images_seen = [images for images, _ in points]
        (line,) = axes.plot(images_seen, [estimate.value for _, estimate in points], marker=".", linewidth=1, label=row.title)
        bands = [estimate.interval or (estimate.value, estimate.value) for _, estimate in points]
        axes.fill_between(images_seen, [low for low, _ in bands], [high for _, high in bands], color=line.get_color(), alpha=0.15)
    if not any_row:
        return None
    if positive:
        axes.set_yscale("log")
    axes.set(xlabel="images seen", ylabel=f"{name} on the validation split")
    if len(rows) > 1:
        axes.legend(fontsize=7)
    of_seeds = "; over seeds middle and brackets, as in the table" if any(len(row.runs) > 1 for row in rows) else ""
    return Figure(_address(plots.drawn(sheet)), f"{name} during training{of_seeds}.")


def _measures(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What only some models have, such as the error of reconstructions, on the test split."""
    found = summary.get("measures") or {}
    return [(name, recorded.digits(value)) for name, value in found.items() if not name.endswith("_validation")]


def _title(heading: str, row: Row) -> str:
    """What tells a row from those of all tables."""
    return f"{heading}: {row.title}" if heading else row.title


def _findings(tables: Sequence[tuple[str, list[Row]]]) -> Iterator[dict[str, str]]:
    """The referee's findings, and runs that were far better before their end."""
    for heading, rows in tables:
        for row in rows:
            for run in row.runs:
                name = f"{_title(heading, row)}, seed {run.summary.get('seed')}"
                if says := _worse_at_the_end(run.summary):
                    yield {"run": name, "images": f"{run.summary['images_seen']:,}", "says": says}
                for finding in (run.summary.get("referee") or {}).get("findings", ()):
                    advice = f" Try: {finding['try'][0]}" if finding.get("try") else ""
                    yield {"run": name, "images": f"{finding['first_images']:,}", "says": f"{finding['says']}.{advice}"}


def _worse_at_the_end(summary: Mapping[str, Any]) -> str | None:
    """What happened, if the leading score was twice as good before: too late for the referee."""
    for score in recorded.read(summary)[:1]:
        if score.validation is not None and score.best_validation is not None and score.best_validation > 0:
            ratio = score.validation / score.best_validation
            if ratio > FAR_WORSE if score.better == "lower" else ratio < 1 / FAR_WORSE:
                best, now = map(recorded.digits, (score.best_validation, score.validation))
                return f"the run got worse: {score.name}_validation was {best}, and is {now} at the end"
    return None


def _wall(tables: Sequence[tuple[str, list[Row]]]) -> list[Figure]:
    """Samples of each run at the end, row by row, after real images of the same data."""
    wall: list[Figure] = []
    every = [(heading, row) for heading, rows in tables for row in rows]
    per_row = max(1, MOST_PICTURES // max(len(every), 1))
    shown_data = set[tuple[str, ...]]()
    for heading, row in every:
        for run in row.runs[:per_row]:
            real = run.folder / FOLDER / REAL
            if run.data not in shown_data and real.is_file():
                shown_data.add(run.data)
                wall.append(Figure(_address(_top(real)), "real images"))
            found = grids(run.folder / FOLDER)
            if found:
                last = max(found)
                wall.append(Figure(_address(_top(found[last])), f"{_title(heading, row)}, seed {run.summary.get('seed')}, {last:,} images"))
    return wall


def _top(path: Path) -> Image.Image:
    """The upper half of a grid, so that many fit on a page."""
    with Image.open(path) as grid:
        return grid.convert("RGB").crop((0, 0, grid.width, max(grid.height // 2, min(grid.height, grid.width // 2))))


def _own_pictures(run: Path) -> list[Figure]:
    """The pictures of a single run."""
    drawn = grids(run / FOLDER)
    last = max(drawn.items(), default=(0, run / FOLDER / "none.png"))
    others = sorted({*(run / FOLDER).glob("*.png")} - {*drawn.values(), run / FOLDER / PROGRESS, run / FOLDER / REAL})
    chosen = {
        run / FOLDER / PROGRESS: "Progress",
        last[1]: f"Samples after {last[0]:,} images",
        **{path: path.stem.replace("_", " ").capitalize() for path in others},
        run / FOLDER / "progress.gif": "Animation",
        run / SHEET: "Diagnostics",
    }
    found = [Figure(_file(path.read_bytes(), path.suffix[1:]), caption) for path, caption in chosen.items() if path.is_file()]
    return [*found, *_walk(run)]


def _walk(run: Path) -> list[Figure]:
    """Samples of the run on their way through the latents; none without a checkpoint of images."""
    if not checkpoints.saved_files(run):
        return []
    try:
        moments = load(run).walk(WALKERS, STATIONS, STEPS)
    except TwoplayerError as error:
        log.warning("no walk through the latents: %s", error)
        return []
    if moments.ndim != 5:
        return []
    file = io.BytesIO()
    pictures.loop([pictures.grid(pictures.as_images(moment), WALKERS) for moment in moments], file)
    return [Figure(_file(file.getvalue(), "gif"), "A walk through the latents, along great circles")]


def _file(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _settings(tables: Sequence[tuple[str, list[Row]]], single: bool) -> list[list[str]]:
    """What sets each row apart from most others; all settings of a single run."""
    configs = {_title(heading, row): dict(leaves(read_config(row.runs[0].folder))) for heading, rows in tables for row in rows}
    left_out = ("run", "name", "sweep", "seed", "resume")
    names = [name for name in dict.fromkeys(name for config in configs.values() for name in config) if name not in left_out]
    told = {title: {name: written(config[name]) if name in config else "" for name in names} for title, config in configs.items()}
    if single:
        return [[name.removesuffix("._target_"), _short(name, value)] for own in told.values() for name, value in own.items()]
    usual = {name: Counter(own[name] for own in told.values()).most_common(1)[0][0] for name in names}
    varied = [name for name in names if len({own[name] for own in told.values()}) > 1]
    lines = [[title, _words({name: own[name] for name in varied if own[name] != usual[name]})] for title, own in told.items()]
    return [["most rows", _words({name: usual[name] for name in varied if usual[name]})], *lines] if varied else []


def _short(name: str, value: str) -> str:
    """The value of a setting; of a class only its module and its name."""
    return ".".join(value.split(".")[-2:]) if name.endswith("_target_") else value


def _words(settings: Mapping[str, str]) -> str:
    return "   ".join(f"{name.removesuffix('._target_')}={_short(name, value) or 'none'}" for name, value in settings.items())


def _commands(folders: Sequence[str], runs: Sequence[Run]) -> str:
    """The command of each sweep, or of each run without one, and that of this page."""
    lines = []
    for folder in map(Path, folders):
        if study := study_of(str(folder)):
            lines += [command("study", *asked) for asked in study.get("commands", ())]
        elif (folder / SWEEP_FILE).is_file():
            words = map(str, OmegaConf.load(folder / SWEEP_FILE).hydra.overrides.task)
            lines.append(command("train", "-m", *without(words, "resume")))
        else:
            lines += [_of_run(run) for run in runs if folder in (run.folder, run.folder.parent)]
    every = [quoted(Path(folder)) for folder in folders]
    asked = every[0] if len(every) == 1 else f"[{','.join(every)}]"
    return "\n".join([*lines, command("report", f"runs={asked}")])


def _of_run(run: Run) -> str:
    words = without(run.asked, *PLACE)
    return command("train", *words, *([] if sets(words, "seed") else [f"seed={run.summary.get('seed')}"]))


def _address(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return _file(file.getvalue(), "png")
