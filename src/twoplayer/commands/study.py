"""A fair comparison: each arm tunes equally much, and is then trained with seeds of its own."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from annotated_types import Ge, MinLen
from hydra.core.hydra_config import HydraConfig

from twoplayer.commands import leaderboard
from twoplayer.commands.forest import forest_plot
from twoplayer.commands.jobs import Job, check_run, run_jobs, score_line
from twoplayer.commands.rows import STUDY, study_of
from twoplayer.errors import ConfigurationError, unknown
from twoplayer.metrics import recorded
from twoplayer.overrides import merged, without
from twoplayer.paths import make_folder, replacing
from twoplayer.storage import lock
from twoplayer.storage.run_folder import read_summary

Costs = Mapping[tuple[str, str], float]
"""The cost of each choice, by arm and name."""

TABLE, TUNING = "tuning.md", "tuning"

Seeds = Annotated[list[Annotated[int, Ge(0)]], MinLen(1)]


@dataclass
class Tuning:
    """What an arm may tune: choices by name, each a list of overrides."""

    choices: Annotated[dict[str, list[str]], MinLen(1)]
    own: dict[str, dict[str, list[str]]]
    """Other choices of single arms, by the name of the arm."""
    shared: list[str]
    """Overrides of all runs that tune."""
    seeds: Seeds


class Arm(NamedTuple):
    """One side of the comparison."""

    name: str
    overrides: tuple[str, ...]
    choices: Mapping[str, tuple[str, ...]]
    """What it may tune, by name."""


def run_study(
    *,
    question: Annotated[str, MinLen(1)],
    baseline: str,
    shared: list[str],
    arms: dict[str, list[str]],
    tuning: Tuning,
    seeds: Seeds,
    sweep: Annotated[str, MinLen(1)],
    jobs: Annotated[int, Ge(1)],
    only: list[str] | None,
) -> None:
    """Train all runs of the study that are not finished, then write and show its leaderboard.

    First each arm is trained with each of its choices and each of `tuning.seeds`. The choice with
    the best mean score on the validation split is then trained with each of `seeds`.

    Raises ConfigurationError before the first run if the arms have different numbers of choices, if
    seeds are used twice, or if a run cannot be composed; Interruption after a signal.
    """
    every = [_arm(str(name), own, shared, tuning) for name, own in arms.items()]
    _refuse(every, baseline, tuning, seeds, only)
    chosen_arms = [arm for arm in every if only is None or arm.name in only]
    print(f"checking the configurations of {len(chosen_arms)} arms ...", flush=True)
    for arm in chosen_arms:
        for name, choice in arm.choices.items():
            check_run(merged(arm.overrides, choice), f"arms.{arm.name}, with {name}")
    folder = Path(sweep)
    make_folder("sweep", folder)
    lock.acquire(folder, "sweep")
    try:
        costs = _tune(folder, chosen_arms, tuning, jobs)
        _record(folder, question, baseline, chosen_arms, costs)
        _compare(folder, chosen_arms, costs, seeds, jobs, baseline)
    finally:
        lock.release(folder)
    print("next")
    for command in leaderboard.next_commands(folder, baseline):
        print(f"  {command}")


def _tune(folder: Path, arms: Sequence[Arm], tuning: Tuning, at_once: int) -> Costs:
    """Train each arm with each of its choices, if there are several."""
    trials = {(arm.name, name): _trials(folder, arm, choice, name, tuning) for arm in arms for name, choice in arm.choices.items()}
    if len(arms[0].choices) > 1:
        print(f"tuning: {sum(map(len, trials.values()))} runs", flush=True)
        run_jobs([job for group in trials.values() for job in group], at_once, score_line)
    return {key: _cost(group) for key, group in trials.items()}


def _compare(folder: Path, arms: Sequence[Arm], costs: Costs, seeds: Sequence[int], at_once: int, baseline: str) -> None:
    """Train the best choice of each arm with each seed, and show the leaderboard at the end.

    They are trained seed by seed, so that an interrupted study has something to say about each arm.
    """
    finals = [
        Job(
            folder / f"{arm.name}_s{seed}",
            merged(arm.overrides, arm.choices[_best(arm, costs)], [f"name={arm.name}", f"seed={seed}"]),
            folder,
        )
        for seed in seeds
        for arm in arms
    ]
    print(f"comparing: {len(finals)} runs", flush=True)
    try:
        run_jobs(finals, at_once, lambda job: _after(job, folder, baseline))
    finally:
        tables = leaderboard.write(folder, baseline)
        leaderboard.show(tables)
        _draw(folder, tables)


def _arm(name: str, own: Sequence[str], shared: Sequence[str], tuning: Tuning) -> Arm:
    choices = tuning.own.get(name) or tuning.choices
    return Arm(name, merged(shared, own), {str(key): tuple(words) for key, words in choices.items()})


def _refuse(arms: Sequence[Arm], baseline: str, tuning: Tuning, seeds: Sequence[int], only: Sequence[str] | None) -> None:
    names = [arm.name for arm in arms]
    for setting_name, wanted in [("baseline", baseline), *(("only", name) for name in only or ())]:
        if wanted not in names:
            raise ConfigurationError(f"{setting_name}: {unknown(wanted, names, kind='known arm')}")
    for name in tuning.own:
        if name not in names:
            raise ConfigurationError(f"tuning.own.{name}: {unknown(name, names, kind='known arm')}")
    if only is not None and baseline not in only:
        raise ConfigurationError(f"only=[{','.join(only)}]: the baseline {baseline} is missing; add it, or set baseline=<one of these>")
    different = next((arm for arm in arms if len(arm.choices) != len(arms[0].choices)), None)
    if different is not None:
        raise ConfigurationError(
            f"tuning.own.{different.name}: this arm has {len(different.choices)} choices and {arms[0].name} has {len(arms[0].choices)}; "
            "a fair comparison tries equally many"
        )
    twice = sorted({*seeds} & {*tuning.seeds}) or [seed for seed in seeds if list(seeds).count(seed) > 1]
    if twice:
        raise ConfigurationError(
            f"seeds: {twice[0]} is used twice; the seeds of the comparison must differ from each other and from tuning.seeds"
        )


def _trials(folder: Path, arm: Arm, choice: Sequence[str], name: str, tuning: Tuning) -> list[Job]:
    return [
        Job(
            folder / TUNING / f"{arm.name}_{name}_s{seed}",
            merged(arm.overrides, tuning.shared, choice, [f"name={arm.name}_{name}", f"seed={seed}"]),
            folder,
        )
        for seed in tuning.seeds
    ]


def _cost(trials: Sequence[Job]) -> float:
    """The mean cost on the validation split; infinite if a trial failed."""
    found = [recorded.objective(read_summary(job.folder)) if job.finished() else None for job in trials]
    known = [value for value in found if value is not None]
    return statistics.fmean(known) if len(known) == len(found) and found else float("inf")


def _best(arm: Arm, costs: Costs) -> str:
    return min(arm.choices, key=lambda name: costs[arm.name, name])


def _after(job: Job, folder: Path, baseline: str) -> str:
    leaderboard.write(folder, baseline)
    return score_line(job)


def _draw(folder: Path, tables: Sequence[leaderboard.Ranking]) -> None:
    """Draw the intervals of each table: intervals.png, intervals1.png and so on."""
    for number, table in enumerate(tables):
        picture = forest_plot(table.rows, table.reference)
        if picture is not None:
            picture.save(folder / f"intervals{number or ''}.png", optimize=True)


def _record(folder: Path, question: str, baseline: str, arms: Sequence[Arm], costs: Costs) -> None:
    """Write study.json and tuning.md: the command, and the choices of each arm.

    Arms that an earlier command has tuned in this folder, and this one leaves out, are kept.
    """
    own = {
        arm.name: {
            "overrides": arm.overrides,
            "chosen": _best(arm, costs),
            "choices": {
                name: {"overrides": words, "cost": None if costs[arm.name, name] == float("inf") else costs[arm.name, name]}
                for name, words in arm.choices.items()
            },
        }
        for arm in arms
    }
    before = study_of(str(folder))
    command = without(HydraConfig.get().overrides.task, "jobs")
    every = {name: arm for name, arm in before.get("arms", {}).items() if name not in own} | own
    content = {
        "question": question,
        "baseline": baseline,
        "commands": [*(each for each in before.get("commands", ()) if each != command), command],
        "arms": every,
    }
    with replacing(folder / STUDY) as place:
        place.write_text(json.dumps(content, indent=2) + "\n")
    with replacing(folder / TABLE) as place:
        place.write_text(_tuning_table(every))


def _tuning_table(arms: Mapping[str, Any]) -> str:
    """What each arm has chosen, and the scores of its choices on the validation split."""
    lines = ["| arm | chosen | cost of each choice on the validation split |", "| --- | --- | --- |"]
    for name, arm in arms.items():
        each = [f"{choice} {recorded.digits(math.inf if own['cost'] is None else own['cost'])}" for choice, own in arm["choices"].items()]
        lines.append(f"| `{name}` | {arm['chosen']} | {', '.join(each)} |")
    return "\n".join(lines) + "\n"
