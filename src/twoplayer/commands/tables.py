"""Tables of runs: scores over seeds, and differences to a baseline."""

import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from twoplayer.commands.rows import Row, Run, score_names
from twoplayer.metrics import recorded
from twoplayer.metrics.intervals import Estimate, interquartile_mean, paired_differences, probability_of_improvement

STOPPED = ("failed", "interrupted")
"""The states of a run that has stopped before its end."""


class Values(NamedTuple):
    """A score of each run of a row, by its seed.

    One that has not finished counts as the worst untrained generator of the table.
    """

    better: str
    by_seed: dict[tuple[Any, int], float]
    score: recorded.Score

    @property
    def estimate(self) -> Estimate:
        """Over the seeds."""
        return interquartile_mean([*self.by_seed.values()])


def values(row: Row, name: str, rows: Sequence[Row]) -> Values | None:
    """None if the row does not have the score, or not yet.

    Each run owes the leading score, so one that has stopped without it counts, too.
    """
    every = [score for other in rows for run in other.runs for score in recorded.read(run.summary) if score.name == name]
    scores = [next((score for score in recorded.read(run.summary) if score.name == name), None) for run in row.runs]
    owed = name == next(iter(score_names(rows)), None)
    if not any(_counts(run, score, owed) for run, score in zip(row.runs, scores, strict=True)):
        return None
    shape = next((score for score in (*scores, *every) if score is not None), None)
    if shape is None:
        return None
    untrained = [score.untrained for score in every if score.untrained is not None]
    worst = max(untrained, key=lambda value: recorded.cost(value, shape.better), default=None)
    by_seed = {}
    for number, (run, score) in enumerate(zip(row.runs, scores, strict=True)):
        finished = run.summary.get("status") == "finished"
        value = score.value if finished and score is not None and score.value is not None else worst
        if value is not None:
            seed = run.summary.get("seed")
            by_seed[seed, sum(other.summary.get("seed") == seed for other in row.runs[:number])] = value
    return Values(shape.better, by_seed, shape) if by_seed else None


def _counts(run: Run, score: recorded.Score | None, owed: bool) -> bool:
    """Whether a run has a score, or has stopped before it had one."""
    if run.summary.get("status") in STOPPED:
        return owed or score is not None
    return run.summary.get("status") == "finished" and score is not None and (score.value is not None or score.untrained is not None)


class Board(NamedTuple):
    """One table: its columns, its lines of cells, and the text below it."""

    columns: list[str]
    lines: list[list[str]]
    below: str

    def markdown(self) -> str:
        """The table in Markdown."""
        return "\n".join([*map(_line, [self.columns, ["---"] * len(self.columns), *self.lines]), "", self.below])


def board(rows: Sequence[Row], reference: Row | None = None, costs: bool = False, pictures: Sequence[str | None] = ()) -> Board:
    """The table of these rows, the best first; `pictures` are the addresses of their samples."""
    names = score_names(rows)
    several = any(len(row.runs) > 1 for row in rows)
    against = compared(rows, reference, names) if several else {}
    order = sorted(range(len(rows)), key=lambda index: _cost(rows[index], names, rows))
    columns = [
        "",
        *headers(rows, names),
        *(["seeds"] if several else []),
        *(["images", "minutes", "images/s"] if costs else []),
        *(["speed"] if reference else []),
        *(["difference", "better with probability"] if reference and several else []),
        *([""] if pictures else []),
    ]
    lines = [
        [
            f"`{rows[index].title}`",
            *_scores(rows[index], names, rows, several),
            *([_seeds(rows[index])] if several else []),
            *(_costs(rows[index]) if costs else []),
            *([_speed(rows[index], reference)] if reference else []),
            *(_compared(against.get(rows[index].title)) if reference and several else []),
            *([f'<img src="{pictures[index]}" width="230">' if pictures[index] else ""] if pictures else []),
        ]
        for index in order
    ]
    num_comparisons = sum(each.difference is not None and each.difference.interval is not None for each in against.values())
    return Board(columns, lines, circumstances(rows, names, reference, costs, several, num_comparisons))


def headers(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """The headers of the score columns; the leading score is also given relative to its floor."""
    limits = [score.limit for row in rows for run in row.runs for score in recorded.read(run.summary) if score.name in names[:1]]
    first = [f"`{names[0]}`", f"times its {limits[0]}"] if names else ["status"]
    return [*first, *(f"`{name}`" for name in names[1:])]


def _scores(row: Row, names: Sequence[str], rows: Sequence[Row], several: bool) -> list[str]:
    """The cells of the scores; a row without the leading one shows its status instead.

    So does a run that has not finished, if no column says how many have not.
    """
    status = str(row.runs[0].summary.get("status", "unknown"))
    found = [None if status in STOPPED and not several else values(row, name, rows) for name in names]
    cells = ["" if each is None else _shown(each.estimate) for each in found] or [""]
    cells[0] = cells[0] or status
    if names:
        leading = found[0]
        cells.insert(1, "" if leading is None else leading.score.ratio(leading.estimate.value))
    return cells


def _shown(estimate: Estimate) -> str:
    if estimate.interval is None:
        return recorded.digits(estimate.value)
    low, high = map(recorded.digits, estimate.interval)
    return f"{recorded.digits(estimate.value)} [{low}, {high}]"


def _seeds(row: Row) -> str:
    """The number of seeds, and how many of them have failed, or not finished otherwise."""
    states = Counter(str(run.summary.get("status", "unknown")) for run in row.runs)
    return ", ".join([str(len(row.runs)), *(f"{number} {state}" for state, number in states.items() if state != "finished")])


class Comparison(NamedTuple):
    """A row against the baseline: the difference on the same seeds, and how often it is better."""

    difference: Estimate | None
    probability: float


def compared(rows: Sequence[Row], reference: Row | None, names: Sequence[str]) -> dict[str, Comparison]:
    """How each other row with a leading score compares to the baseline, by title.

    The intervals are corrected for their number.
    """
    base = values(reference, names[0], rows) if reference is not None and names else None
    if base is None:
        return {}
    found = {row.title: own for row in rows if row is not reference and (own := values(row, names[0], rows)) is not None}
    differences = paired_differences(
        [[own.by_seed[seed] - base.by_seed[seed] for seed in own.by_seed if seed in base.by_seed] for own in found.values()]
    )
    comparisons = {}
    for (title, own), difference in zip(found.items(), differences, strict=True):
        costs = [[recorded.cost(value, own.better) for value in each.by_seed.values()] for each in (own, base)]
        comparisons[title] = Comparison(difference, probability_of_improvement(*costs))
    return comparisons


def _compared(comparison: Comparison | None) -> list[str]:
    if comparison is None:
        return ["", ""]
    return ["" if comparison.difference is None else _shown(comparison.difference), f"{comparison.probability:.2f}"]


def mean(row: Row, key: str) -> float | None:
    """The mean of a number in the summaries of a row; None if no run has it."""
    known = [run.summary[key] for run in row.runs if run.summary.get(key)]
    return sum(known) / len(known) if known else None


def _speed(row: Row, reference: Row) -> str:
    own, other = (mean(each, "images_per_second") for each in (row, reference))
    return f"{own / other:.2f}" if own and other else ""


def _costs(row: Row) -> list[str]:
    """The cells of what a run took on average: images, minutes of training, images per second."""
    images, seconds, speed = (mean(row, key) or 0 for key in ("images_seen", "seconds", "images_per_second"))
    return [f"{images:,.0f}", f"{seconds / 60:.1f}", f"{speed:,.0f}"]


def circumstances(
    rows: Sequence[Row], names: Sequence[str], reference: Row | None, costs: bool, several: bool, num_comparisons: int
) -> str:
    """The text below the table: images, seeds, devices, precisions and floors.

    The images are left out if each row has its own.
    """
    runs = [run for row in rows for run in row.runs]
    images, seeds, devices, precisions = (
        sorted({f"{value:,}" if key == "images_seen" else str(value) for run in runs if (value := run.summary.get(key)) is not None})
        for key in ("images_seen", "seed", "device", "precision")
    )
    floors = ""
    for name in names:
        found = {(score.limit, score.floor) for run in runs for score in recorded.read(run.summary) if score.name == name and score.floor}
        if len(found) == 1:
            ((limit, value),) = found
            floors += f"; the {limit} {f'of {name} ' if len(names) > 1 else ''}is {recorded.digits(value)}"
    speed = reference and mean(reference, "images_per_second")
    base = f"; a speed of 1 is {speed:,.0f} images a second" if speed else ""
    length = "" if costs else f"{' or '.join(images)} images, "
    few = max(len(row.runs) for row in rows) < 4
    brackets = "mean [lowest, highest]" if few else "interquartile mean [95 % bootstrap interval]"
    how = f"; over seeds: {brackets}, an unfinished run counts as untrained" if several else ""
    if reference and several:
        how += "; difference: mean over paired seeds, 95 % interval of Student's t" + (
            f" corrected for {num_comparisons} comparisons (Holm)" if num_comparisons > 1 else ""
        )
    text = f"{length}seed {', '.join(seeds)}, {' and '.join(devices)}, {' and '.join(precisions)}{base}{floors}{how}."
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def _cost(row: Row, names: Sequence[str], rows: Sequence[Row]) -> float:
    """The sort key: the leading score, negated if more is better; infinite without one."""
    found = values(row, names[0], rows) if names else None
    return float("inf") if found is None else recorded.cost(found.estimate.value, found.better)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
