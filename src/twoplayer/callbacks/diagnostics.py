"""The diagnostics sheet of a run: everything that was logged about the game, on one page."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from pytorch_lightning import Callback, Trainer

from twoplayer import pictures, plots
from twoplayer.game.game import Game
from twoplayer.loggers.base import log_picture
from twoplayer.metrics import recorded
from twoplayer.storage.run_folder import read_rows, read_summary

SHEET = "diagnostics.png"
QUANTILES = ("10", "50", "90")
DASHES = ("-", "--", ":", "-.")

Row = Mapping[str, Any]


class Curve(NamedTuple):
    """Names of logged scalars in one panel, and how to draw them."""

    title: str
    names: tuple[str, ...]
    level: float | None = None
    logarithmic: bool = False


log = logging.getLogger(__name__)

COSTS = ("loss/discriminator", "loss/generator")
CURVES = (
    Curve("D's accuracy", ("accuracy/pairs", "accuracy/real", "accuracy/fake"), 0.5),
    Curve("costs of both players", COSTS),
    Curve("norms of gradients", ("gradient_norm/discriminator", "gradient_norm/generator"), logarithmic=True),
    Curve("samples, relative to real images", ("referee/variation", "referee/spread", "referee/classes"), 1.0),
    Curve("distance of samples from real images", ("referee/shift",), logarithmic=True),
    Curve("D on training images against held-out ones", ("referee/order/held_out",), 0.5),
)


class Diagnostics(Callback):
    """Draws the sheet at the end of a run, also of one that stops with an error."""

    def on_train_end(self, trainer: Trainer, game: Game) -> None:  # type: ignore[override]
        self._draw(trainer, game)

    def on_exception(self, trainer: Trainer, game: Game, exception: BaseException) -> None:  # type: ignore[override]
        try:
            self._draw(trainer, game)
        except Exception as error:  # what ended the run is the error to be seen
            log.warning("no %s: %s", SHEET, error)

    def _draw(self, trainer: Trainer, game: Game) -> None:
        folder = Path(trainer.default_root_dir)
        if not trainer.is_global_zero or game.clock.iteration == 0:
            return
        pictures.write(sheet({"": read_rows(folder, game.clock.images_seen)}, {"": read_summary(folder)}), folder / SHEET)
        log_picture(trainer, "diagnostics", folder / SHEET, game.clock.images_seen)


def sheet(rows: Mapping[str, Sequence[Row]], summaries: Mapping[str, Mapping[str, Any]]) -> Image.Image:
    """Panels over images seen, of one run or of several by title.

    A single run also has its penalties, D's logits and the shares of classes; vertical lines are
    the referee's findings.
    """
    single = len(rows) == 1
    every = list(rows.values())
    logged = {name for each in every for row in each for name in row}
    scores = [score for summary in summaries.values() for score in recorded.read(summary)]
    curves = [curve for curve in CURVES if logged & set(curve.names)]
    if scores:
        curves.insert(0, Curve(scores[0].name, (f"{scores[0].name}_validation",), scores[0].floor, scores[0].better == "lower"))
    own = tuple(sorted(name for name in logged if name.startswith("loss/") and name not in COSTS))
    if own:
        curves.append(Curve("the model's other costs", own, logarithmic=True))
    penalties = tuple(sorted(name for name in logged if "penalty/" in name))
    if penalties:
        curves.append(Curve("penalties", penalties, logarithmic=True))
    special = [name for name in ("logits", "classes") if single and any(each.startswith(f"referee/{name}/") for each in logged)]
    columns = 3
    lines = -(-(len(curves) + len(special)) // columns)
    page = plots.figure(4.2 * columns, 2.8 * max(lines, 1))
    panels = list(page.subplots(lines, columns, squeeze=False).flat) if lines else []
    last = max((row["images_seen"] for each in every for row in each), default=0)
    for panel in panels:
        panel.set_xlim(0, 1.02 * last or 1)
    for panel, curve in zip(panels, curves, strict=False):
        _curve(panel, curve, rows, single)
    for panel, name in zip(panels[len(curves) :], special, strict=False):
        (_logits if name == "logits" else _classes)(panel, every[0])
    for panel in panels[len(curves) + len(special) :]:
        panel.set_axis_off()
    if single:
        (summary,) = summaries.values()
        for finding in (summary.get("referee") or {}).get("findings", ()):
            for panel in panels[: len(curves)]:
                panel.axvline(finding["first_images"], color="red", linewidth=0.8, linestyle=":")
            if panels:
                panels[0].annotate(
                    finding["rule"].replace("_", " "),
                    (finding["first_images"], 1),
                    xycoords=("data", "axes fraction"),
                    rotation=90,
                    va="top",
                    ha="right",
                    fontsize=6,
                    color="red",
                )
    return plots.drawn(page)


def _curve(panel: Any, curve: Curve, rows: Mapping[str, Sequence[Row]], single: bool) -> None:
    """Colours are quantities; of several runs colours are runs, and dashes quantities."""
    drawn = []
    for number, (title, each) in enumerate(rows.items()):
        for place, name in enumerate(curve.names):
            points = [(row["images_seen"], row[name]) for row in each if isinstance(row.get(name), float)]
            if points:
                style = {} if single else {"color": f"C{number}", "linestyle": DASHES[place % len(DASHES)]}
                panel.plot(
                    *zip(*points, strict=True),
                    linewidth=1,
                    label=name.rpartition("/")[2] if single else None,
                    marker=_marker(points),
                    markersize=4,
                    **style,
                )
                drawn += [title, name]
    if not single:  # lines without points, for the legend
        for number, title in enumerate(rows):
            if title in drawn:
                panel.plot([], [], color=f"C{number}", label=title)
        for place, name in enumerate(curve.names):
            if len(curve.names) > 1 and name in drawn:
                panel.plot([], [], color="gray", linestyle=DASHES[place % len(DASHES)], label=name.rpartition("/")[2])
    if curve.level is not None:
        panel.axhline(curve.level, color="gray", linewidth=0.8, linestyle="--")
    if curve.logarithmic and any(
        row.get(name, 0) > 0 for each in rows.values() for row in each for name in curve.names if isinstance(row.get(name), float)
    ):
        panel.set_yscale("log")
    _title(panel, curve.title)
    if panel.get_legend_handles_labels()[0] and (len(curve.names) > 1 or not single or curve.title == "penalties"):
        panel.legend(fontsize=6)


def _logits(panel: Any, rows: Sequence[Row]) -> None:
    """Bands between the 10 % and the 90 % quantile of D's logits, with the median."""
    for side, colour in (("train", plots.REAL), ("held_out", plots.OPTIMAL), ("samples", plots.FAKE)):
        names = [f"referee/logits/{side}_{quantile}" for quantile in QUANTILES]
        points = [
            [row["images_seen"], *(row[name] for name in names)] for row in rows if all(isinstance(row.get(name), float) for name in names)
        ]
        if points:
            images, low, middle, high = zip(*points, strict=True)
            panel.fill_between(images, low, high, color=colour, alpha=0.2, linewidth=3 if len(points) == 1 else 0)
            panel.plot(images, middle, color=colour, linewidth=1, marker=_marker(points), markersize=4, label=side.replace("_", " "))
    _title(panel, "D's logits: median, 10 % to 90 %")
    panel.legend(fontsize=6)


def _classes(panel: Any, rows: Sequence[Row]) -> None:
    """The shares of classes among samples, over time."""
    names = sorted(
        {name for row in rows for name in row if name.startswith("referee/classes/")}, key=lambda name: int(name.rpartition("/")[2])
    )
    points = [[row["images_seen"], *(row[name] for name in names)] for row in rows if all(name in row for name in names)]
    images, *shares = zip(*points, strict=True)
    title, numbers = "shares of classes among samples", [name.rpartition("/")[2] for name in names]
    if len(points) == 1:
        panel.set_xlim(-0.6, len(names) - 0.4)
        panel.bar(numbers, points[0][1:])
        _title(panel, f"{title}, at {images[0]:,.0f} images")
        return
    panel.stackplot(images, *shares, labels=numbers)
    panel.set(ylim=(0, 1))
    _title(panel, title)
    panel.legend(fontsize=5, ncols=2, loc="upper left")


def _marker(points: Sequence[Any]) -> str | None:
    """Points of a short curve are marked; one alone would not be seen."""
    return "." if len(points) < 30 else None


def _title(panel: Any, title: str) -> None:
    panel.set_title(title, fontsize=9)
    panel.tick_params(labelsize=7, which="both")
