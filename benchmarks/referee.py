"""What the referee catches, how soon, and how often it is wrong.

`python benchmarks/referee.py play` trains the failures of `FAILURES` in outputs/referee, in ten
minutes on an idle machine. `python benchmarks/referee.py judge <folder> ...` takes the runs in
these folders as healthy ones, and replays the rules on what all runs have logged. It writes the
table of docs/failures.md.

Thresholds are chosen on every other run and reported on the rest.
"""

import csv
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from safetensors.torch import save_file

from twoplayer.commands.compare import insert
from twoplayer.config.compose import compose_run
from twoplayer.data.base import to_unit_range
from twoplayer.errors import NumericsError
from twoplayer.paths import CONF
from twoplayer.referee.base import Rule
from twoplayer.referee.evidence import Evidence
from twoplayer.runs.plan import open_data, plan_run
from twoplayer.runs.train import train

HOME = Path("outputs/referee")
PAGE = CONF.parent / "docs" / "failures.md"
SHORT = ["model=dcgan_paper", "budget.images=60000", "metric=[]", "logger=none", "threads=1", "seed=0"]


class Failure(NamedTuple):
    """What is done to a DCGAN with the default tricks, and the rules that have to see it."""

    overrides: tuple[str, ...]
    rules: tuple[str, ...]
    begins: int = 0


FAILURES = {
    "G is frozen": Failure(
        ("optimizer/player@optimizer.generator=sgd", "optimizer.generator.lr=1e-12"), ("discriminator_overpowers", "low_diversity")
    ),
    "D learns a hundred times as fast": Failure(("optimizer.discriminator.lr=0.2",), ("mode_collapse",)),
    "D learns a hundredth as fast": Failure(("optimizer.discriminator.lr=2e-5",), ("discriminator_clueless",)),
    "nine of ten classes are dropped": Failure(("impostor=one_class",), ("mode_collapse", "vanishing_gradient")),
    "training images as samples": Failure(("impostor=copies",), ("memorization",)),
    "G ignores its latents": Failure(("+trick.deaf._target_=helpers.injected.Deaf",), ("constant_output",)),
    "G is told classes and ignores its latents": Failure(
        ("experiment=cdcgan", "+trick.deaf._target_=helpers.injected.Deaf"), ("class_collapse",)
    ),
    "NaN in D": Failure(
        ("+trick.poison._target_=helpers.injected.Poison", "+trick.poison.player=discriminator", "+trick.poison.images=20000"),
        ("not_finite",),
        20000,
    ),
    "NaN in G": Failure(
        ("+trick.poison._target_=helpers.injected.Poison", "+trick.poison.player=generator", "+trick.poison.images=20000"),
        ("not_finite",),
        20000,
    ),
    "500 training images": Failure(("data.num_images=500", "trick=[ema]"), ("discriminator_overfits",)),
    "minimax after pretraining D": Failure(
        ("loss=minimax", "trick=[pretrain_discriminator]", "trick.pretrain_discriminator.images=12000", "optimizer.generator.lr=2e-4"),
        ("discriminator_overpowers",),
    ),
    "a critic without bound": Failure(("loss=wasserstein", "trick=[ema]"), ("exploding_gradient",)),
}

CANDIDATES: dict[str, tuple[str, tuple[float, ...]]] = {
    "discriminator_overpowers": ("least_shift", (0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8)),
    "discriminator_clueless": ("least_shift", (0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8)),
    "discriminator_overfits": ("least_order", (0.55, 0.6, 0.65, 0.7, 0.75, 0.8)),
    "mode_collapse": ("most_classes", (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)),
    "low_diversity": ("most_spread", (0.3, 0.25, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03)),
    "class_collapse": ("most_spread", (0.3, 0.25, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03)),
    "constant_output": ("most_variation", (0.3, 0.2, 0.1, 0.05, 0.02)),
    "vanishing_gradient": ("most", (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)),
    "exploding_gradient": ("times", (3.0, 5.0, 10.0, 20.0, 50.0)),
    "memorization": ("least_copies", (0.1, 0.2, 0.3, 0.5, 0.7, 0.9)),
}
"""The setting of each rule that is chosen, and its values, the most sensitive first."""


def play() -> None:
    """Train each failure that is not there yet."""
    sys.path.append(str(CONF.parent / "tests"))
    for name, failure in FAILURES.items():
        folder = HOME / name.replace(" ", "_")
        if (folder / "summary.json").is_file():
            continue
        print(name, flush=True)
        with tempfile.TemporaryDirectory() as place:
            overrides = [part for each in failure.overrides for part in _impostor(each, Path(place))]
            config = compose_run(*SHORT, *overrides, f"run='{folder}'")
            try:
                train(config, plan_run(config, folder))
            except NumericsError as error:
                print(error)


def _impostor(override: str, place: Path) -> list[str]:
    """`impostor=<which>` as overrides of the trick that shows stored images as samples."""
    if not override.startswith("impostor="):
        return [override]
    images, labels = open_data(compose_run(*SHORT)).splits.train
    chosen = images[labels == 3] if override.endswith("one_class") else images
    save_file({"images": to_unit_range(chosen[:5000])}, place / "images.safetensors")
    return ["+trick.impostor._target_=helpers.injected.Impostor", f"+trick.impostor.file='{place / 'images.safetensors'}'"]


def history(folder: Path) -> list[Evidence]:
    """The looks of a run, from metrics.csv; scalars are the means of rows since the last look."""
    looks: list[Evidence] = []
    since: dict[str, list[float]] = {}
    with (folder / "metrics.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            numbers = {name: float(value) for name, value in row.items() if name is not None and value}
            seen = {name.removeprefix("referee/"): value for name, value in numbers.items() if name.startswith("referee/")}
            for name, value in numbers.items():
                since.setdefault(name, []).append(value)
            if seen:
                means = {
                    name: sum(values) / len(values) for name, values in since.items() if name.startswith(("accuracy/", "gradient_norm/"))
                }
                looks.append({"images_seen": numbers["images_seen"], **means, **seen})
                since = {}
    return looks


def first_broken(rule: Rule, looks: Sequence[Evidence]) -> int | None:
    """The images seen when a rule was first broken, or None."""
    for end in range(1, len(looks) + 1):
        if rule.broken(looks[:end]):
            return int(looks[end - 1]["images_seen"])
    return None


def judge(folders: Sequence[str]) -> None:
    """Choose thresholds, and write the table."""
    runs = [path.parent for folder in folders for path in sorted(Path(folder).glob("*/metrics.csv"))]
    healthy = {f"{run.parent.name}/{run.name}": history(run) for run in runs}
    healthy = {name: looks for name, looks in healthy.items() if looks}
    failing = {
        name: history(HOME / name.replace(" ", "_")) for name in FAILURES if (HOME / name.replace(" ", "_") / "metrics.csv").is_file()
    }
    halves = [dict(list(healthy.items())[start::2]) for start in (0, 1)]
    settings: Any = OmegaConf.to_container(OmegaConf.load(CONF / "referee" / "default.yaml"))
    lines = [
        "| rule | threshold | caught | delay in images | false alarms where chosen | false alarms elsewhere |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, node in settings["rules"].items():
        setting, values = CANDIDATES[name]
        found = {value: _alarms(instantiate({**node, setting: value}), halves[0]) for value in values}
        print(f"{name}: {setting} " + ", ".join(f"{value:g}: {len(each)}" for value, each in found.items()))
        rule = instantiate(node)
        wanted = [failure for failure, each in FAILURES.items() if name in each.rules and failure in failing]
        delays = {failure: first_broken(rule, failing[failure]) for failure in wanted}
        caught = [failure for failure, delay in delays.items() if delay is not None]
        alarms = [_alarms(rule, half) for half in halves]
        print(f"  {node[setting]:g}: caught {delays}; false alarms {alarms}")
        delay = ", ".join(f"{delays[failure] - FAILURES[failure].begins:,}" for failure in caught)  # type: ignore[operator]
        counts = " | ".join(f"{len(each)} of {len(half)}" for each, half in zip(alarms, halves, strict=True))
        lines.append(f"| `{name}` | `{setting}` {node[setting]:g} | {'; '.join(caught)} | {delay} | {counts} |")
    lines.append(_not_finite())
    missed = [
        f"{failure}: {rule}" for failure, each in FAILURES.items() for rule in each.rules if _missed(failure, rule, failing, settings)
    ]
    print("missed:", missed)
    insert("\n".join(lines), PAGE, "referee")


def _alarms(rule: Rule, runs: Mapping[str, Sequence[Evidence]]) -> list[str]:
    return [f"{name} at {moment:,}" for name, looks in runs.items() if (moment := first_broken(rule, looks)) is not None]


def _missed(failure: str, rule: str, failing: Mapping[str, Sequence[Evidence]], settings: Any) -> bool:
    if failure not in failing or rule == "not_finite":
        return False
    return first_broken(instantiate(settings["rules"][rule]), failing[failure]) is None


def _not_finite() -> str:
    """The row of the rule that is no rule: the run ends at once."""
    delays = []
    for name, failure in FAILURES.items():
        path = HOME / name.replace(" ", "_") / "summary.json"
        if "not_finite" in failure.rules and path.is_file():
            for finding in json.loads(path.read_text())["referee"]["findings"]:
                if finding["rule"] == "not_finite":
                    delays.append(f"{finding['first_images'] - failure.begins:,}")
    return f"| `not_finite` | any | NaN in D; NaN in G | {', '.join(delays)} | 0 | 0 |"


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["play"]:
        play()
    elif sys.argv[1:2] == ["judge"] and len(sys.argv) > 2:
        judge(sys.argv[2:])
    else:
        sys.exit(__doc__)
