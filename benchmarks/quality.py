"""Time to quality: the conventional script and our default recipe, scored by `fd_validation`.

The seconds are those of training; scoring stops the clock for both. Measurements are kept in
outputs/benchmarks/, so an interrupted benchmark resumes.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback
from torch import Tensor

from conventional import BATCH, LATENTS, Script
from twoplayer import randomness
from twoplayer.data.base import Data
from twoplayer.metrics.base import Sampler
from twoplayer.metrics.fd import FD
from twoplayer.metrics.scoring import Scoring
from twoplayer.paths import CONF

FOLDER = CONF.parent / "outputs" / "benchmarks"
EPOCH = 60_000
SCRIPT_MOMENTS = [EPOCH * part // 4 for part in (1, 2, 4, 6, 8)]
BUDGET = 4 * EPOCH
OUR_MOMENTS = [7_680 * count for count in (1, 2, 3, 4, 6, 8, 12, 16, 24)] + [BUDGET]
SCRIPT_SEEDS, OUR_SEEDS = (0, 1), (0, 1, 2, 3, 4)

Point = dict[str, float]


class Curve:
    """The points of one run, appended to a file."""

    def __init__(self, name: str) -> None:
        FOLDER.mkdir(parents=True, exist_ok=True)
        self.file = FOLDER / f"{name}.jsonl"
        self.points: list[Point] = [json.loads(line) for line in self.file.read_text().splitlines()] if self.file.exists() else []

    def add(self, images: int, seconds: float, score: float) -> None:
        """Add a point."""
        self.points.append({"images": images, "seconds": seconds, "fd_validation": score})
        with self.file.open("a") as file:
            file.write(json.dumps(self.points[-1]) + "\n")


def prepared(data: Data) -> Scoring:
    """The scoring of FD, with the features of real images."""
    return Scoring({"fd": FD(num_samples=10_000)}, data, torch.device("cpu"))


def score(scoring: Scoring, sampler: Sampler) -> float:
    """`fd_validation`."""
    return scoring.score(sampler, ["validation"])["validation"]["fd"]


def of_script(seed: int, data: Data) -> list[Point]:
    """The curve of the conventional script over two epochs, resumed where it was interrupted."""
    curve, state = Curve(f"script_{seed}"), FOLDER / f"script_{seed}.pt"
    script = Script(seed, str(getattr(data, "root", "data")))
    if curve.points:
        script.load(torch.load(state, weights_only=True))
    left = [moment for moment in SCRIPT_MOMENTS if moment > script.seen]
    if not left:
        return curve.points
    scoring = prepared(data)

    def sample(num: int, chunk: int) -> Tensor:
        generator = randomness.generator("cpu", seed, "metric", chunk)
        return script.sample(torch.randn(num, LATENTS, generator=generator))

    seconds = curve.points[-1]["seconds"] if curve.points else 0.0
    started = time.perf_counter()
    for _ in script.train():
        if script.seen >= left[0]:
            seconds += time.perf_counter() - started
            curve.add(script.seen, seconds, score(scoring, sample))
            torch.save(script.state(), state)
            print(f"conventional script, seed {seed}: {curve.points[-1]}", flush=True)
            left.pop(0)
            if not left:
                break
            started = time.perf_counter()
    return curve.points


class Moments(Callback):
    """Scores our game at OUR_MOMENTS, with the clock stopped."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.seconds = 0.0
        self.started = 0.0
        self.scoring: Scoring
        self.curve: Curve

    def on_train_start(self, trainer: Any, game: Any) -> None:
        self.scoring, self.curve = prepared(trainer.datamodule), Curve(f"ours_{self.seed}")

    def on_train_batch_start(self, *others: Any) -> None:
        self.started = self.started or time.perf_counter()

    def on_train_batch_end(self, trainer: Any, game: Any, *others: Any) -> None:
        if any(game.clock.crossed_once(moment) for moment in OUR_MOMENTS):
            self.seconds += time.perf_counter() - self.started
            self.curve.add(game.clock.images_seen, self.seconds, score(self.scoring, _sampler(game)))
            self.started = time.perf_counter()


def _sampler(game: Any) -> Sampler:
    return lambda num, chunk: game.sample(game.latents(num, "metric", chunk), torch.arange(num) % game.num_classes)


def of_ours(seed: int, play: Callable[..., Any]) -> tuple[list[Point], dict[str, float]]:
    """The curve of our default recipe, and its scores at the end.

    An interrupted run starts again.
    """
    name, file = f"ours_{seed}", FOLDER / f"ours_{seed}.json"
    if not file.exists():
        (FOLDER / f"{name}.jsonl").unlink(missing_ok=True)
        folder = FOLDER / f"{name}_{int(time.time())}"
        moments = f"+callbacks.moments={{_target_:quality.Moments,seed:{seed}}}"
        summary = play(folder, f"seed={seed}", "callbacks.scores.every_images=1000000000", f"budget.images={BUDGET}", moments)
        ended = summary["scores"]["fd"]
        file.write_text(json.dumps({"fd": ended["value"], "fd_floor": ended["floor"], "fd_validation": ended["validation"]}))
        print(f"twoplayer, seed {seed}: {Curve(name).points[-1]}, fd {ended['value']:.2f}", flush=True)
    return Curve(name).points, json.loads(file.read_text())


def reach(points: list[Point], score: float) -> float | None:
    """Seconds until a curve reaches `score`, interpolated linearly; None if it never does."""
    before = None
    for point in points:
        if point["fd_validation"] <= score:
            if before is None:
                return point["seconds"]
            share = (before["fd_validation"] - score) / (before["fd_validation"] - point["fd_validation"])
            return before["seconds"] + share * (point["seconds"] - before["seconds"])
        before = point
    return None


def compare(script: list[list[Point]], ours: list[list[Point]]) -> dict[str, Any]:
    """How much sooner ours reaches the script's score after one epoch, and after two.

    Each seed of the script is compared with the median of ours.
    """
    found: dict[str, Any] = {"images/s of the script": statistics.median(points[-1]["images"] / points[-1]["seconds"] for points in script)}
    for epochs in (1, 2):
        times, scores, seconds, theirs = [], [], [], []
        for points in script:
            point = next(point for point in points if point["images"] >= epochs * EPOCH - BATCH)
            reached = [reach(curve, point["fd_validation"]) for curve in ours]
            ours_seconds = statistics.median(value if value is not None else float("inf") for value in reached)
            times.append(point["seconds"] / ours_seconds)
            theirs.append(point["seconds"])
            scores.append(point["fd_validation"])
            seconds.append(ours_seconds)
        found[f"after {epochs} epoch{'s'[: epochs - 1]}"] = {
            "fd_validation of the script": statistics.mean(scores),
            "seconds of the script": statistics.mean(theirs),
            "seconds of ours": statistics.mean(seconds),
            "times sooner": statistics.mean(times),
        }
    return found


def draw(script: list[list[Point]], ours: list[list[Point]], floor: float, path: Path) -> None:
    """Plot all curves, both axes logarithmic."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), dpi=120)
    for curves, color, name in ((script, "tab:gray", "the usual tutorial script"), (ours, "tab:blue", "twoplayer, default recipe")):
        for index, points in enumerate(curves):
            seconds, scores = [point["seconds"] for point in points], [point["fd_validation"] for point in points]
            axes.plot(
                seconds, scores, color=color, marker="o", markersize=3, linewidth=1, label=None if index else f"{name}, {len(curves)} seeds"
            )
    axes.axhline(floor, color="black", linewidth=0.8, linestyle=":", label="real images (floor)")
    axes.set(xscale="log", yscale="log", xlabel="seconds of training", ylabel="fd_validation (lower is better)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout(rect=(0, 0, 1, 0.94))
    figure.legend(loc="upper center", ncols=3, fontsize="small", frameon=False)  # above the axes, away from the lines
    figure.savefig(path)


def time_to_quality(play: Callable[..., Any], data: Data, plot: Path) -> dict[str, Any]:
    """Run the whole comparison, and write the plot."""
    ours, scores = zip(*(of_ours(seed, play) for seed in OUR_SEEDS), strict=True)
    script = [of_script(seed, data) for seed in SCRIPT_SEEDS]
    draw(script, list(ours), prepared(data).floors["fd"], plot)
    ended = {f"fd of the default recipe, seed {seed}": score["fd"] for seed, score in zip(OUR_SEEDS, scores, strict=True)}
    return {**compare(script, list(ours)), **ended, "fd_floor": scores[0]["fd_floor"], "curves": {"script": script, "ours": ours}}
