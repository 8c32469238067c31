"""The search: Optuna's proposals, trained, scored, stopped early, and continued."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from helpers.games import choices, composed
from twoplayer.commands import search
from twoplayer.commands.jobs import Job
from twoplayer.config.check import check_call
from twoplayer.errors import ConfigurationError, origin
from twoplayer.overrides import merged
from twoplayer.settings import compose_config
from twoplayer.signals import Interruption

OVER = ["optimizer.generator.lr=tag(log, interval(1e-4, 1e-1))", "loss=hinge,minimax"]


def run(sweep: Path, **changes: Any) -> None:
    """Search over a rate and a loss, with changes."""
    settings = {"shared": ["trick=[]", "budget.images=400"], "over": OVER, "trials": 6, "sweep": str(sweep), "jobs": 2}
    config = OmegaConf.create({"_target_": "twoplayer.commands.search.run_search", **settings, "prune_after_trials": None, **changes})
    assert isinstance(config, DictConfig)
    check_call(config)
    try:
        instantiate(config)
    except InstantiationException as error:
        raise origin(error) from None


def settings_of(job: Job) -> dict[str, str]:
    return dict(word.split("=", 1) for word in job.overrides)


class Runs:
    """Stands in for the processes: a run's score is best at a rate of 1e-2, and for hinge."""

    def __init__(self) -> None:
        self.started: list[Job] = []
        self.running: list[Job] = []
        self.stopped: list[Job] = []
        self.before: Callable[[Job], None] = lambda job: None

    def __call__(self, at_once: int) -> "Runs":
        self.at_once, self.running = at_once, []
        return self

    def is_free(self) -> bool:
        return len(self.running) < self.at_once

    def start(self, job: Job) -> None:
        self.before(job)
        self.started.append(job)
        self.running.append(job)
        job.folder.mkdir(parents=True, exist_ok=True)
        rate, loss = float(settings_of(job)["optimizer.generator.lr"]), settings_of(job)["loss"]
        value = 10.0 + abs(rate - 1e-2) * 100 + 5 * (loss == "minimax")
        rows = [f"{images},{value + 100 - images / 4}" for images in (100, 200, 400)]
        (job.folder / "metrics.csv").write_text("\n".join(["images_seen,fd_validation", *rows]) + "\n")
        score = {"value": value, "validation": value, "untrained": 4000.0, "better": "lower", "floor": 4.0}
        (job.folder / "summary.json").write_text(json.dumps({"status": "finished", "seconds": 60.0, "scores": {"fd": score}}))

    def ended(self) -> list[Job]:
        job = self.running.pop(0)
        return [job]

    def stop(self, *jobs: Job) -> None:
        self.stopped += jobs
        self.running = [job for job in self.running if job not in jobs]

    def kill(self) -> None:
        raise AssertionError("nothing was asked to stop at once")


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    stand_in = Runs()
    monkeypatch.setattr(search, "Pool", stand_in)
    monkeypatch.setattr(search, "SECONDS_BETWEEN_LOOKS", 0.0)
    monkeypatch.setattr(search, "SECONDS_BETWEEN_CURVES", -1.0)
    return stand_in


def trials(sweep: Path) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="search", storage=f"sqlite:///{sweep / 'search.db'}").trials


def test_a_search_proposes_trains_and_names_the_best(tmp_path: Path, runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path / "sweep")
    assert len(runs.started) == 6
    assert all(merged(["trick=[]", "budget.images=400"]) == job.overrides[:2] for job in runs.started)
    found = trials(tmp_path / "sweep")
    for job, trial in zip(runs.started, found, strict=True):
        assert settings_of(job)["loss"] == trial.params["loss"]
        assert float(settings_of(job)["optimizer.generator.lr"]) == trial.params["optimizer.generator.lr"]
    best = min(found, key=lambda trial: trial.value or 0.0)
    output = capsys.readouterr().out
    assert f"optimizer.generator.lr={best.params['optimizer.generator.lr']} loss={best.params['loss']}" in output.splitlines()[-1]
    assert "6 of 6  " in output
    with (tmp_path / "sweep" / "trials.csv").open() as file:
        assert [float(row["cost"]) for row in csv.DictReader(file)] == [trial.value for trial in found]
    assert {path.name for path in (tmp_path / "sweep" / "plots").iterdir()} == {
        "optimization_history.png",
        "intermediate_values.png",
        "slice.png",
    }


def test_a_search_goes_on_with_more_trials_and_learns_from_the_former(tmp_path: Path, runs: Runs) -> None:
    run(tmp_path / "sweep", trials=3)
    run(tmp_path / "sweep", trials=3)
    assert len(runs.started) == 3
    run(tmp_path / "sweep", trials=5)
    assert [job.folder.name for job in runs.started] == ["000", "001", "002", "003", "004"]
    assert len({job.overrides for job in runs.started}) == 5, "a continued sampler does not repeat itself"


def test_an_interrupted_trial_is_resumed_with_its_settings_in_its_folder(tmp_path: Path, runs: Runs) -> None:
    def interrupt(job: Job) -> None:
        if len(runs.started) == 3:
            raise Interruption(15, "saved")

    runs.before = interrupt
    with pytest.raises(Interruption):
        run(tmp_path / "sweep", jobs=1)
    (cut_off,) = [trial for trial in trials(tmp_path / "sweep") if trial.state.name == "RUNNING"]
    runs.before = lambda job: None
    run(tmp_path / "sweep", jobs=1)
    assert [job.folder.name for job in runs.started][:4] == ["000", "001", "002", cut_off.user_attrs["folder"]]
    assert settings_of(runs.started[3])["loss"] == cut_off.params["loss"]
    assert len(runs.started) == 6


def test_a_bad_curve_is_stopped_early(tmp_path: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optuna.Trial, "should_prune", lambda self: self.number == 4)
    run(tmp_path / "sweep", prune_after_trials=1)
    assert [job.folder.name for job in runs.stopped] == ["004"]
    states = [trial.state.name for trial in trials(tmp_path / "sweep")]
    assert states.count("PRUNED") == 1
    assert len(states) == 6


def test_a_run_that_failed_counts_as_untrained(tmp_path: Path, runs: Runs) -> None:
    def ended() -> list[Job]:
        job = runs.running.pop(0)
        summary = json.loads((job.folder / "summary.json").read_text())
        (job.folder / "summary.json").write_text(json.dumps(summary | {"status": "failed"}))
        return [job]

    runs.ended = ended  # type: ignore[method-assign]
    run(tmp_path / "sweep", trials=1)
    assert [trial.value for trial in trials(tmp_path / "sweep")] == [4000.0]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("loss=hinge,minimax", CategoricalDistribution(["hinge", "minimax"])),
        ("trick=[],[ema,r1]", CategoricalDistribution(["[]", "[ema,r1]"])),
        ("data.batch_size=range(32,129,32)", IntDistribution(32, 128, step=32)),
        ("data.batch_size=int(interval(32,128))", IntDistribution(32, 128)),
        ("optimizer.generator.lr=tag(log, interval(1e-4, 1e-2))", FloatDistribution(1e-4, 1e-2, log=True)),
        ("optimizer.generator.beta1=interval(0, 0.5)", FloatDistribution(0.0, 0.5)),
    ],
)
def test_what_is_searched_is_written_as_in_a_sweep(word: str, expected: Any) -> None:
    assert search._distribution(word) == (word.partition("=")[0], expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"over": ["loss=hinge"]}, "loss=hinge has one value only"),
        ({"over": ["x=tag(log, interval(0, 1))"]}, "over: x=tag(log, interval(0, 1)): `low > 0` must hold"),
        ({"over": ["loss=hinge,"]}, "over: "),
        ({"over": ["loss=minimax,hing"]}, "over: loss=hing: hing is not a choice of loss"),
        ({"over": ["optimizer.generator.lr=interval(-1, 1)"]}, "over: optimizer.generator.lr=-1.0: must be greater than 0"),
        ({"over": ["optimizer.generator.beta2=interval(0.9, 1.1)"]}, "over: optimizer.generator.beta2=1.1: must be less than 1"),
        (
            {"over": ["optimizer.generator.rl=1e-3,1e-2"]},
            "over: optimizer.generator.rl is not a setting; did you mean optimizer.generator.lr",
        ),
        ({"shared": ["loss=hing"]}, "shared: loss=hing: hing is not a choice of loss"),
        ({"over": []}, "over="),
        ({"trials": 0}, "trials=0"),
    ],
)
def test_what_cannot_be_searched_is_told_before_the_first_run(changes: dict[str, Any], message: str, tmp_path: Path, runs: Runs) -> None:
    with pytest.raises(ConfigurationError) as told:
        run(tmp_path / "sweep", **changes)
    assert message in str(told.value)
    assert not runs.started
    assert not (tmp_path / "sweep").exists()


def test_another_search_does_not_go_on_in_the_same_folder(tmp_path: Path, runs: Runs) -> None:
    run(tmp_path / "sweep", trials=1)
    with pytest.raises(ConfigurationError, match="the search in this folder has another over"):
        run(tmp_path / "sweep", over=["loss=hinge,minimax"])
    with pytest.raises(ConfigurationError, match="has another shared"):
        run(tmp_path / "sweep", shared=["trick=[ema]"])


@pytest.mark.parametrize("name", choices("space"))
def test_the_spaces_are_valid(name: str) -> None:
    config = compose_config("search", f"space={name}")
    for word in config.over:
        setting, distribution = search._distribution(word)
        composed(*merged(config.shared, [f"{setting}={search._first(distribution)}"]))
