"""GANs beside autoencoders and pixel models: one table, and their samples side by side.

`python benchmarks/families.py <run folders>` scores runs that were trained on MNIST, which takes
minutes each, and times their sampling. It writes the table of docs/beyond.md and docs/families.png.
`mixture.npz`, which benchmarks/mixture.py writes, is scored, too, if it is there.
"""

import sys
import time
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from rich.console import Console
from rich.progress import track
from torch import Tensor

import twoplayer
from twoplayer import pictures
from twoplayer.commands.compare import insert
from twoplayer.config.compose import compose_run
from twoplayer.data.base import to_unit_range
from twoplayer.data.samples import read_samples
from twoplayer.metrics.base import CHUNK
from twoplayer.metrics.recorded import digits
from twoplayer.metrics.scoring import Scoring
from twoplayer.paths import CONF
from twoplayer.runs.plan import open_data
from twoplayer.settings import family

DOCS = CONF.parent / "docs"
METRICS = "metric=[fd,precision_recall,c2st,sharpness]"
NUM = 10_000
SHOWN = 20
MIXTURE = Path("mixture.npz")
CODES = {True: "yes", False: "no"}


def main() -> None:
    """Score and draw each run of the command line, the mixture and real images."""
    torch.set_num_threads(1)
    config = compose_run(METRICS)
    data = open_data(config)
    scoring = Scoring({str(name): instantiate(node) for name, node in config.metric.items()}, data, torch.device("cpu"))
    names = [name for metric in scoring.metrics.values() for name in metric.numbers]
    rows: list[tuple[str, dict[str, float], list[str]]] = []
    drawn: list[tuple[str, Tensor]] = []

    def add(title: str, samples: Tensor, facts: list[str]) -> None:
        scores = scoring.score(lambda num, index: samples[index * CHUNK :][:num], ["test"])["test"]
        rows.append((title, scores, facts))
        drawn.append((title, samples[:SHOWN]))

    for folder in track(sys.argv[1:], "scoring", console=Console(stderr=True)):
        saved = twoplayer.load(folder)
        began = time.perf_counter()
        samples = torch.cat([saved(CHUNK, seed) for seed in range(NUM // CHUNK)])
        seconds = time.perf_counter() - began
        measures: dict[str, Any] = dict(saved.summary.get("measures") or {})
        has_code = saved.game.encode(*data.held_out(0, 2, saved.game.device)[:2]) is not None
        bits, neighbors = measures.get("bits_per_dimension_test"), measures.get("code_neighbors_test")
        facts = [
            CODES[has_code],
            "" if neighbors is None else f"{neighbors:.1%}",
            "" if bits is None else f"{bits:.2f}",
            f"{saved.summary['seconds'] / 60:.1f} min",
            f"{1000 * seconds / NUM:.2g} ms",
        ]
        add(
            f"`experiment={Path(folder).name}`"
            if (CONF / "experiment" / f"{Path(folder).name}.yaml").exists()
            else family(saved.config.model),
            samples,
            facts,
        )
    if MIXTURE.exists():
        add("100 Gaussians on pixels", read_samples(MIXTURE, (1, 28, 28)), ["no", "", "", "", ""])
    add("real images", to_unit_range(data.splits.validation.images), [""] * 5)
    titles = [*(f"`{name}`" for name in names), "code", "same class as the nearest code", "bits per pixel", "training", "per sample"]
    lines = [f"| | {' | '.join(titles)} |", "| --- " * (len(titles) + 1) + "|"]
    leading = names[0]
    for title, scores, facts in sorted(rows, key=lambda row: row[1][leading]):
        lines.append(f"| {title} | {' | '.join([*(digits(scores[name]) for name in names), *facts])} |")
    insert("\n".join(lines), DOCS / "beyond.md", "families")
    strips = [(title.strip("`"), pictures.grid(pictures.as_images(images), SHOWN)) for title, images in drawn]
    pictures.filmstrip(strips[:-1], strips[-1]).save(DOCS / "families.png")


if __name__ == "__main__":
    main()
