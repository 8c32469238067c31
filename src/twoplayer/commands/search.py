"""A search for good settings: Optuna proposes them, runs are scored, bad ones are stopped."""

import csv
import logging
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, MinLen
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException

from twoplayer.commands.jobs import SECONDS_BETWEEN_LOOKS, Job, Pool, check_run, score_line
from twoplayer.commands.messages import explain
from twoplayer.errors import ConfigurationError
from twoplayer.metrics import recorded
from twoplayer.overrides import PLACE, merged, without
from twoplayer.paths import command, make_folder
from twoplayer.signals import listening
from twoplayer.storage import lock
from twoplayer.storage.run_folder import SEARCH, read_rows, read_summary

if TYPE_CHECKING:
    import optuna

PLOTS, FOLDER = "plots", "folder"
SHOWN = 5
SECONDS_BETWEEN_CURVES = 2.0
INCHES_PER_SETTING = 4.5
"""Of the picture that has a panel for each setting."""


def run_search(
    *,
    shared: list[str],
    over: Annotated[list[str], MinLen(1)],
    trials: Annotated[int, Ge(1)],
    sweep: Annotated[str, MinLen(1)],
    jobs: Annotated[int, Ge(1)],
    prune_after_trials: Annotated[int, Ge(1)] | None,
) -> None:
    """Train `trials` runs with settings that Optuna's TPE sampler proposes.

    It minimizes the leading score on the validation split, or maximizes it where more is better. A
    run with numbers that are not finite counts as untrained. The settings and values are in
    search.db; pictures by Optuna are in plots/. An interrupted run is resumed with its settings.

    Raises ConfigurationError before the first run if Optuna is missing, if a setting of `over`
    has one value only or cannot be composed, or if the folder has another search;
    Interruption after a signal.
    """
    try:
        import optuna
    except ImportError:
        raise ConfigurationError("search.py: needs the package optuna; install it with uv sync --extra search") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    distributions = dict(_distribution(word) for word in over)
    first = [f"{name}={_first(each)}" for name, each in distributions.items()]
    check_run(merged(shared), "shared")
    for each in dict.fromkeys(merged(shared, first, [word]) for word in (*first, *_extremes(distributions))):
        check_run(each, "over")
    folder = Path(sweep)
    make_folder("sweep", folder)
    lock.acquire(folder, "sweep")
    try:
        study = _open(folder, distributions, shared, prune_after_trials)
        _search(study, distributions, shared, folder, trials, jobs)
    finally:
        lock.release(folder)
    _show(study, shared, folder)


def _distribution(word: str) -> "tuple[str, optuna.distributions.BaseDistribution]":
    """A setting and its values from Hydra's syntax of sweeps."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    try:
        override: Override = OverridesParser.create().parse_override(word)
    except HydraException as error:
        raise ConfigurationError(f"over: {explain(error)}") from error
    value, name = override.value(), str(override.get_key_element())
    try:
        if isinstance(value, ChoiceSweep):
            return name, CategoricalDistribution([*override.sweep_string_iterator()])
        if isinstance(value, RangeSweep):
            numbers = [*value.range()]
            if all(isinstance(number, int) for number in numbers):
                return name, IntDistribution(numbers[0], numbers[-1], step=int(value.step))
            return name, FloatDistribution(float(numbers[0]), float(numbers[-1]), step=float(value.step))
        if isinstance(value, IntervalSweep):
            low, high, log = value.start, value.end, "log" in value.tags
            if isinstance(low, int) and isinstance(high, int):
                return name, IntDistribution(low, high, log=log)
            return name, FloatDistribution(float(low or 0), float(high or 0), log=log)
    except (ValueError, IndexError) as error:
        raise ConfigurationError(f"over: {word}: {' '.join(str(error).split())}") from error
    raise ConfigurationError(
        f"over: {word} has one value only; write several (a,b), an interval (tag(log, interval(1e-4, 1e-2))), or put it into shared"
    )


def _first(distribution: Any) -> Any:
    return distribution.choices[0] if hasattr(distribution, "choices") else distribution.low


def _extremes(distributions: Mapping[str, Any]) -> list[str]:
    """Every choice of settings that have some, and the largest number of the others."""
    values = {name: each.choices if hasattr(each, "choices") else (each.high,) for name, each in distributions.items()}
    return [f"{name}={value}" for name, every in values.items() for value in every]


def _open(folder: Path, distributions: Mapping[str, Any], shared: Sequence[str], prune_after: int | None) -> "optuna.Study":
    """The search in this folder, or a new one."""
    import optuna

    storage = f"sqlite:///{(folder / SEARCH).absolute()}"
    known = optuna.get_all_study_summaries(storage) if (folder / SEARCH).is_file() else []
    told = {"over": [f"{name}={distribution}" for name, distribution in distributions.items()], "shared": list(shared)}
    for summary in known:
        for name, value in told.items():
            if summary.user_attrs.get(name) != value:
                raise ConfigurationError(
                    f"sweep={folder}: the search in this folder has another {name}; set sweep=<another folder>, or the former {name}"
                )
    number = known[0].n_trials if known else 0
    study = optuna.create_study(
        storage=storage,
        study_name="search",
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=number, n_startup_trials=8, constant_liar=True),
        pruner=optuna.pruners.NopPruner() if prune_after is None else optuna.pruners.MedianPruner(n_startup_trials=prune_after),
    )
    for name, value in told.items():
        study.set_user_attr(name, value)
    return study


def _last(study: "optuna.Study") -> dict[str, Any]:
    """The last trial of each run folder; a run that was interrupted has several."""
    return {trial.user_attrs.get(FOLDER, ""): trial for trial in study.get_trials(deepcopy=False) if trial.user_attrs.get(FOLDER)}


def _search(study: "optuna.Study", distributions: Mapping[str, Any], shared: Sequence[str], folder: Path, most: int, at_once: int) -> None:
    from optuna.trial import TrialState

    for name, trial in _last(study).items():
        if trial.state == TrialState.RUNNING:  # its process is gone
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params, user_attrs={FOLDER: name})
    done = sum(trial.state not in (TrialState.RUNNING, TrialState.FAIL, TrialState.WAITING) for trial in _last(study).values())
    if done:
        print(f"{done} of {most} trials are finished already", flush=True)
    pool, open_trials, begin, before = Pool(at_once), dict[Job, tuple[Any, _Curve]](), time.monotonic(), done
    with listening(pool.kill):
        while done < most:
            while pool.is_free() and done + len(open_trials) < most:
                trial = study.ask(dict(distributions))
                if FOLDER not in trial.user_attrs:
                    trial.set_user_attr(FOLDER, f"{trial.number:03d}")
                chosen = [f"{name}={value}" for name, value in trial.params.items()]
                job = Job(folder / trial.user_attrs[FOLDER], merged(shared, chosen), folder)
                pool.start(job)
                open_trials[job] = trial, _Curve(job, trial)
            ended = pool.ended()
            pruned = [job for job, (_, curve) in open_trials.items() if job not in ended and curve.is_hopeless()]
            if pruned:
                pool.stop(*pruned)
            for job in (*ended, *pruned):
                trial, curve = open_trials.pop(job)
                if job in pruned:
                    study.tell(trial, state=TrialState.PRUNED)
                else:
                    study.tell(trial, _value(job))
                done += 1
                seconds = (time.monotonic() - begin) / (done - before) * (most - done)
                result = (
                    score_line(job) if job in ended else f"stopped early, at {recorded.digits(curve.last)} after {curve.images:,} images"
                )
                left = f"; about {seconds / 60:,.0f} min left" if done < most else ""
                print(f"{done} of {most}  {_told(trial.params)}: {result}{left}", flush=True)
            time.sleep(SECONDS_BETWEEN_LOOKS)


class _Curve:
    """The curve of the score of a running trial, as far as Optuna knows it."""

    def __init__(self, job: Job, trial: Any) -> None:
        self._job, self._trial = job, trial
        self.images, self.last = 0, 0.0
        self._looked = time.monotonic()

    def is_hopeless(self) -> bool:
        """Tell Optuna what is new; whether it would stop the run."""
        score = None
        if time.monotonic() - self._looked > SECONDS_BETWEEN_CURVES:
            self._looked = time.monotonic()
            score = next(iter(recorded.read(read_summary(self._job.folder))), None)
        before = self.images
        for row in read_rows(self._job.folder) if score is not None else ():
            value = row.get(f"{score.name}_validation") if score is not None else None
            if isinstance(value, float) and score is not None and row["images_seen"] > self.images:
                self.images, self.last = row["images_seen"], value
                self._trial.report(recorded.cost(value, score.better), self.images)
        return self.images > before and bool(self._trial.should_prune())


def _value(job: Job) -> float:
    """The cost of a run; that of an untrained generator if it has none."""
    summary = read_summary(job.folder)
    value = recorded.objective(summary)
    if value is not None and summary.get("status") == "finished":
        return value
    score = next(iter(recorded.read(summary)), None)
    return float("inf") if score is None or score.untrained is None else recorded.cost(score.untrained, score.better)


def _told(settings: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={f'{value:.4g}' if isinstance(value, float) else value}" for name, value in settings.items())


def _show(study: "optuna.Study", shared: Sequence[str], folder: Path) -> None:
    """Write trials.csv and the pictures, and print the best trials and the command of the first."""
    from optuna.trial import TrialState

    found = sorted((trial for trial in _last(study).values() if trial.state == TrialState.COMPLETE), key=lambda trial: trial.value)
    every = _last(study)
    names = list(dict.fromkeys(name for trial in every.values() for name in trial.params))
    with (folder / "trials.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["run", "state", "cost", *names])
        for name, trial in every.items():
            writer.writerow([name, trial.state.name.lower(), trial.value, *(trial.params.get(setting) for setting in names)])
    _draw(study, folder / PLOTS)
    print("the best")
    for trial in found[:SHOWN]:
        job = Job(folder / trial.user_attrs[FOLDER], (), folder)
        print(f"  {trial.user_attrs[FOLDER]}  {score_line(job)}  {_told(trial.params)}")
    if found:
        best = merged(shared, [f"{name}={value}" for name, value in found[0].params.items()])
        print(f"next\n  {command('train', *without(best, *PLACE))}")


def _draw(study: "optuna.Study", folder: Path) -> None:
    """Optuna's own pictures: the best value so far, the curves, and the value over each setting."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter
    from optuna.visualization import matplotlib as pictures

    folder.mkdir(exist_ok=True)
    for name in ("optimization_history", "intermediate_values", "slice"):
        with warnings.catch_warnings(), mpl.rc_context():  # Optuna changes matplotlib's style for good
            warnings.simplefilter("ignore")
            getattr(pictures, f"plot_{name}")(study)
            panels = [panel for panel in plt.gcf().axes if panel.get_xlabel()]
            if len(panels) > 1:  # settings have long names
                plt.gcf().set_size_inches(INCHES_PER_SETTING * len(panels), 4.8)
                for panel in panels:
                    panel.xaxis.set_minor_formatter(NullFormatter())
            plt.gcf().savefig(folder / f"{name}.png", dpi=100, bbox_inches="tight")
        plt.close("all")
