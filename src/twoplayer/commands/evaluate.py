"""Scoring samples of a run, or of any other program, against real images."""

import csv
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge, MinLen
from rich.console import Console
from rich.table import Table
from torch import Tensor

from twoplayer import pictures, plots
from twoplayer.data.base import Data, to_unit_range
from twoplayer.data.neighbors import nearest
from twoplayer.data.samples import read_samples
from twoplayer.errors import ConfigurationError
from twoplayer.metrics import recorded
from twoplayer.metrics.base import CHUNK, Images, Meaning, Metric
from twoplayer.metrics.features import load_features
from twoplayer.metrics.scoring import Scoring
from twoplayer.paths import make_folder, shown
from twoplayer.runs.saved import SavedGenerator, home, load_for

SHOWN = 12
"""The number of samples in a picture of neighbours."""
EXTREMES = 32
"""The number of samples that D likes best, and least, in a picture."""
ENOUGH = 10_000
"""The number of samples that scores in the documentation are of."""
REAL = "real"
CPU = torch.device("cpu")


def evaluate(
    *,
    run: Annotated[str, MinLen(1)] | None,
    samples: Annotated[str, MinLen(1)] | None,
    data: Data,
    metric: dict[str, Metric],
    num: Annotated[int, Ge(2)],
    latent_seeds: Annotated[int, Ge(1)],
    output: Annotated[str, MinLen(1)] | None,
) -> None:
    """Score samples, print a table, and write it as JSON and CSV, with pictures.

    Each score is against the test split, beside its floor: the score of the validation split. For a
    run it is the mean over sets of `num` samples from different latents. Raises ConfigurationError
    if not exactly one of `run` and `samples` is given, or if no metric can score these data.
    """
    if (run is None) == (samples is None):
        raise ConfigurationError(f"run={run or 'null'} samples={samples or 'null'}: name one of them: whose samples are scored")
    if data.classifier is not None:
        shape = data.splits.test.images.shape[1:]
        load_features(data.classifier).refuse(data.classifier, shape[0] if len(shape) == 3 else None, data.num_classes)
    generator = None if run is None else load_for(run, data)
    sets, labels = _sets(generator, samples, data, num, latent_seeds)
    meaning: Meaning | None = "labels" if generator is not None and generator.game.meaning == "labels" else None
    scoring = Scoring(metric, data, CPU, meaning)
    if not scoring.metrics:
        raise ConfigurationError(f"metric=[{','.join(metric)}]: {'; '.join(scoring.reasons.values()) or 'nothing is left to score'}")
    judged = [scoring.real["validation"]] if samples == REAL else [_images(each, labels) for each in sets]
    found = [scoring.score_images(each, "test") for each in judged]
    rows = _rows(found, scoring)
    folder = Path(output or (home(run) / "evaluation" if run else "outputs/evaluation"))
    make_folder("output", folder)
    _write(rows, scoring, folder, run or samples, data, len(sets[0]))
    _tell(rows, scoring, run or samples or "", len(sets[0]), len(sets))
    for path in _draw(sets[0], labels, generator, data, folder):
        print(shown(path))


def _sets(generator: SavedGenerator | None, samples: str | None, data: Data, num: int, seeds: int) -> tuple[list[Tensor], Tensor | None]:
    """Sets of samples in [-1, 1], and the labels of each set, if there are any."""
    if generator is not None:
        generator.game.take_told(data)
        latents = torch.zeros(num, 0)
        labels = generator.game.classes_of(latents) if generator.game.meaning == "labels" else None
        told = labels if generator.game.model.conditional else None
        return [generator(num, seed, told) for seed in range(1000, 1000 + seeds)], labels
    if samples == REAL:
        return [to_unit_range(data.splits.validation.images)], data.splits.validation.labels
    assert samples is not None
    return [read_samples(Path(samples), tuple(data.splits.test.images.shape[1:]))], None


def _images(samples: Tensor, labels: Tensor | None) -> Images:
    """Samples as metrics take them."""

    def part(values: Tensor, num: int, index: int) -> Tensor:
        return values[index * CHUNK :][:num]

    classes = None if labels is None else lambda num, index: part(labels, num, index)
    return Images(lambda num, index: part(samples, num, index), len(samples), classes, labelled=labels is not None)


def _rows(found: Sequence[dict[str, float]], scoring: Scoring) -> list[dict[str, Any]]:
    better = {name: each for metric in scoring.metrics.values() for name, each in metric.numbers.items()}
    rows = []
    for name in found[0]:
        values = [each[name] for each in found]
        row: dict[str, Any] = {"score": name, "value": statistics.mean(values), "better": better[name], "floor": scoring.floors.get(name)}
        if len(values) > 1:
            row |= {"smallest": min(values), "largest": max(values)}
        else:
            metric = next(metric for metric in scoring.metrics.values() if name in metric.numbers)
            interval = metric.interval(values[0])
            row |= {"smallest": None, "largest": None} if interval is None else {"smallest": interval[0], "largest": interval[1]}
        rows.append(row)
    return rows


def _write(rows: Sequence[dict[str, Any]], scoring: Scoring, folder: Path, source: str | None, data: Data, num: int) -> None:
    protocols = {name: metric.protocol() for name, metric in scoring.metrics.items()}
    content = {
        "source": source,
        "data": type(data).__module__.rpartition(".")[2],
        "num_samples": num,
        "scores": list(rows),
        "protocols": protocols,
        "reasons": dict(scoring.reasons),
    }
    (folder / "scores.json").write_text(json.dumps(content, indent=2) + "\n")
    with (folder / "scores.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["score", "value", "smallest", "largest", "floor", "better"])
        writer.writeheader()
        writer.writerows(rows)


def _tell(rows: Sequence[dict[str, Any]], scoring: Scoring, source: str, num: int, num_sets: int) -> None:
    """Print the table, and why a metric is not in it."""
    what = f"{num_sets} sets of {num:,} samples" if num_sets > 1 else f"{num:,} samples"
    table = Table(title=f"{what} of {source}, against the test split", title_justify="left")
    columns: dict[str, list[str]] = {"score": [row["score"] for row in rows], "value": [recorded.digits(row["value"]) for row in rows]}
    columns["range over sets" if num_sets > 1 else "95 % interval"] = [
        "" if row["smallest"] is None else f"{recorded.digits(row['smallest'])} to {recorded.digits(row['largest'])}" for row in rows
    ]
    if num >= ENOUGH:
        scores = [recorded.Score(row["score"], row["better"], row["value"], None, None, None, row["floor"], {}) for row in rows]
        columns["floor or ceiling"] = ["" if score.floor is None else recorded.digits(score.floor) for score in scores]
        columns["value / floor"] = [score.ratio(row["value"]) for score, row in zip(scores, rows, strict=True)]
    columns["better"] = [row["better"] for row in rows]
    shown_columns = {name: cells for name, cells in columns.items() if any(cells)}
    for column in shown_columns:
        table.add_column(column, justify="left" if column in ("score", "better") else "right")
    for cells in zip(*shown_columns.values(), strict=True):
        table.add_row(*cells)
    Console(width=110 if not Console().is_terminal else None).print(table)
    for name, reason in scoring.reasons.items():
        print(f"{name} is not computed: {reason}")
    if num < ENOUGH:
        print(f"scores of {num:,} samples do not compare with scores of {ENOUGH:,}, nor with their floors, which are left out")


def _draw(samples: Tensor, labels: Tensor | None, generator: SavedGenerator | None, data: Data, folder: Path) -> list[Path]:
    """Samples beside their nearest real images, the extremes for D, and the classes."""
    paths = []

    def save(picture: Any, name: str) -> None:
        picture.save(folder / f"{name}.png")
        paths.append(folder / f"{name}.png")

    if samples.ndim == 4:
        some = samples[:SHOWN]
        splits = data.splits.train.images, data.splits.test.images
        rows = [some, *(to_unit_range(images[nearest(some, images)[1]]) for images in splits)]
        strips = [
            (label, pictures.grid(pictures.as_images(row), SHOWN))
            for label, row in zip(("samples", "nearest\ntraining"), rows, strict=False)
        ]
        save(pictures.filmstrip(strips, ("nearest\ntest", pictures.grid(pictures.as_images(rows[2]), SHOWN))), "nearest")
        outputs = None if generator is None else _outputs(generator, samples, labels)
        if outputs is not None:
            order = outputs.argsort(descending=True)
            strips = [
                (label, pictures.grid(pictures.as_images(samples[chosen]), EXTREMES // 2))
                for label, chosen in (("best\nfor D", order[:EXTREMES]), ("worst\nfor D", order[-EXTREMES:]))
            ]
            save(pictures.filmstrip(strips[:1], strips[1]), "best_and_worst")
    if data.classifier is not None:
        extract = load_features(data.classifier)
        with torch.no_grad():
            counts = [_answers(extract, images) for images in (to_unit_range(data.splits.test.images), samples)]
        save(plots.classes(*(each / each.sum() for each in counts)), "classes")
    return paths


def _answers(extract: Any, images: Tensor) -> Tensor:
    answers = torch.cat([extract.classifier.logits(extract(part)).argmax(1) for part in images.split(CHUNK)])
    return answers.bincount(minlength=extract.takes.num_classes).double()


@torch.no_grad()
def _outputs(generator: SavedGenerator, samples: Tensor, labels: Tensor | None) -> Tensor | None:
    """D's logits of samples; None if D gives vectors, or judges packs or no images."""
    game = generator.game
    if not game.model.judges_images or game.loss.of_vectors or game.tricks.images_per_logit > 1:
        return None
    labels = game.labels(len(samples)) if labels is None else labels
    logits = [
        game.model.judge(game.model.example(images, told))[0]
        for images, told in zip(samples.split(CHUNK), labels.split(CHUNK), strict=True)
    ]
    return torch.cat(logits).float()
