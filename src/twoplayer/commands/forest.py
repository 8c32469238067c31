"""Forest plots: the score of each row of a table with its interval."""

from collections.abc import Sequence

from PIL import Image

from twoplayer import plots
from twoplayer.commands.rows import Row, score_names
from twoplayer.commands.tables import values
from twoplayer.metrics import recorded

CAPTION = "The leading score of each seed (gray), that of the row (orange), and its brackets (line)."
FAR = 5
"""A score of so many floors is so far away that the floor would squeeze the picture."""


def forest_plot(rows: Sequence[Row], reference: Row | None = None) -> Image.Image | None:
    """The leading score of each row with its interval, the best on top; None if no row has it.

    A dotted line is at the reference, a dashed one at the floor, if it is near.
    """
    name = next(iter(score_names(rows)), None)
    known = [(row.title, found) for row in rows if name is not None and (found := values(row, name, rows)) is not None]
    if name is None or not known:
        return None
    known.sort(key=lambda item: recorded.cost(item[1].estimate.value, item[1].better), reverse=True)
    from matplotlib.ticker import LogLocator, NullFormatter

    sheet = plots.figure(8.0, 1.0 + 0.35 * len(known))
    axes = sheet.subplots()
    for place, (_, found) in enumerate(known):
        estimate = found.estimate
        axes.plot([*found.by_seed.values()], [place] * len(found.by_seed), ".", color=plots.REAL, alpha=0.4)
        if estimate.interval is not None:
            axes.plot(estimate.interval, [place, place], color=plots.OUTPUT, linewidth=2)
        axes.plot([estimate.value], [place], "o", color=plots.FAKE)
    smallest = min(value for _, found in known for value in found.by_seed.values())
    floors = {found.score.floor for _, found in known if found.score.floor}
    for floor in floors if len(floors) == 1 and smallest < FAR * max(floors) else ():
        axes.axvline(floor, color="gray", linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(known)), [title for title, _ in known])
    base = next((found.estimate.value for title, found in known if reference is not None and title == reference.title), None)
    if base is not None:
        axes.axvline(base, color=plots.FAKE, linewidth=0.8, linestyle=":")
    axes.set(xlabel=f"{name} ({known[0][1].better} is better)", ylim=(-0.6, len(known) - 0.4))
    axes.grid(axis="x", alpha=0.3)
    if smallest > 0 and known[0][1].better == "lower":
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0)))
        axes.xaxis.set_major_formatter(lambda value, place: f"{value:,g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    return plots.drawn(sheet)
