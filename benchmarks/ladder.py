"""Which score sees which fault: real images with faults in growing doses, scored.

`python benchmarks/ladder.py` takes ten minutes on an idle machine. It writes the table of
docs/scores.md and docs/ladder.png.
"""

import sys
from collections.abc import Callable

import torch
from hydra.utils import instantiate
from rich.console import Console
from rich.progress import track
from torch import Tensor

from twoplayer import pictures
from twoplayer.commands.compare import insert
from twoplayer.config.compose import compose_run
from twoplayer.data.base import to_unit_range
from twoplayer.metrics.base import CHUNK
from twoplayer.metrics.recorded import cost, digits
from twoplayer.metrics.scoring import Scoring
from twoplayer.paths import CONF
from twoplayer.runs.plan import open_data

sys.path.append(str(CONF.parent / "tests"))
from helpers.faults import FAULTS

DOCS = CONF.parent / "docs"
METRICS = "metric=[fd,kid,precision_recall,coverage,classes,vendi,c2st]"
SIZED = ("fd", "kid", "precision_recall", "coverage", "classes", "vendi")
NUM = 2500
POOL = 3 * NUM
SHOWN = 8


def sampler(images: Tensor) -> Callable[[int, int], Tensor]:
    """Images as metrics draw them."""
    return lambda num, index: images[index * CHUNK :][:num]


def main() -> None:
    """Score every dose of every fault."""
    torch.set_num_threads(1)
    config = compose_run(METRICS, *(f"metric.{name}.num_samples={NUM}" for name in SIZED), "metric.c2st.num_samples=2000")
    data = open_data(config)
    scoring = Scoring({str(name): instantiate(node) for name, node in config.metric.items()}, data, torch.device("cpu"))
    better = {name: each for metric in scoring.metrics.values() for name, each in metric.numbers.items()}
    split = data.splits.train
    images, labels = to_unit_range(split.images[:POOL]), split.labels[:POOL]
    faults = {fault.__name__.replace("_", " "): [fault(images, labels, dose, NUM) for dose in range(3)] for fault in FAULTS}
    clean = scoring.score(sampler(images[:NUM]), ["test"])["test"]
    found = {
        name: [scoring.score(sampler(dose), ["test"])["test"] for dose in doses]
        for name, doses in track(faults.items(), "scoring", console=Console(stderr=True))
    }
    lines = [f"| fault | {' | '.join(f'`{name}`' for name in better)} |", "| --- " * (len(better) + 1) + "|"]
    lines.append(f"| none | {' | '.join(digits(clean[name]) for name in better)} |")
    for fault, doses in found.items():
        cells = []
        for name, way in better.items():
            costs = [cost(each[name], way) for each in (clean, *doses)]
            mark = "" if costs == sorted(costs) else " (!)"
            cells.append(", ".join(digits(each[name]) for each in doses) + mark)
        lines.append(f"| {fault} | {' | '.join(cells)} |")
    lines += ["", f"{NUM:,} images; (!) marks where a score does not get worse with each dose."]
    insert("\n".join(lines), DOCS / "scores.md", "ladder")
    rows = [
        (name, pictures.grid(pictures.as_images(torch.cat([dose[:SHOWN] for dose in doses])), 3 * SHOWN)) for name, doses in faults.items()
    ]
    pictures.filmstrip(rows, ("none", pictures.grid(pictures.as_images(images[: 3 * SHOWN]), 3 * SHOWN))).save(DOCS / "ladder.png")


if __name__ == "__main__":
    main()
