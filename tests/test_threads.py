"""The number of threads: chosen by timing trial iterations, recorded, and kept on resume."""

import logging
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from helpers.games import SMALL, play, state_sha256
from twoplayer.callbacks.pace import Pace
from twoplayer.runs import threads
from twoplayer.runs.plan import Plan
from twoplayer.runs.threads import candidates, choose
from twoplayer.settings import compose_config
from twoplayer.storage import checkpoints


def machine(seconds: dict[int, float]) -> tuple[Callable[[int], float], Counter[int]]:
    """A machine with given seconds per iteration by number of threads, and the counts of trials."""
    asked: Counter[int] = Counter()

    def iterate(number: int) -> float:
        asked[number] += 1
        return seconds[number]

    return iterate, asked


def test_candidates_are_powers_of_two_and_all() -> None:
    assert [candidates(most) for most in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]


def test_a_quiet_machine_gets_all_its_threads_and_a_busy_one_few() -> None:
    quiet, _ = machine({1: 0.057, 2: 0.045, 4: 0.03})
    busy, asked = machine({1: 0.06, 2: 0.5, 4: 4.0})
    assert choose([1, 2, 4], quiet).threads == 4
    trial = choose([1, 2, 4], busy)
    assert trial.threads == 1
    assert trial.seconds == {1: 0.06, 2: 0.5, 4: 4.0}
    assert asked == {1: 2, 2: 2, 4: 2}  # to warm up, and once


def test_more_threads_have_to_be_worth_it() -> None:
    assert choose([1, 2], machine({1: 0.050, 2: 0.048})[0]).threads == 1


def test_a_trial_takes_a_second_and_leaves_hopeless_numbers_out() -> None:
    iterate, asked = machine({1: 0.05, 2: 0.4})
    choose([1, 2], iterate)
    assert asked[2] == 2
    assert asked[1] * 0.05 == pytest.approx(threads.TRIAL_SECONDS - 0.4, abs=0.11)


@pytest.mark.parametrize(
    ("variables", "processes", "expected"),
    [({}, 1, 8), ({}, 2, 4), ({}, 16, 1), ({"SLURM_NTASKS": "2", "SLURM_CPUS_PER_TASK": "3"}, 2, 3), ({"OMP_NUM_THREADS": "8"}, 2, 8)],
)
def test_ranks_of_a_machine_share_its_cpus(
    variables: dict[str, str], processes: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OMP_NUM_THREADS", "SLURM_NTASKS", "SLURM_CPUS_PER_TASK", "SLURM_JOB_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("twoplayer.runs.threads.torch.get_num_threads", lambda: 8)
    assert threads.share(processes) == expected


@pytest.mark.parametrize("settings", [[], ["trainer.devices=2", "data.batch_size=32"]])
def test_a_process_of_slurm_takes_no_more_than_its_cpus(settings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.delenv("OMP_NUM_THREADS")  # what is set below ends with the test
    monkeypatch.setenv("SLURM_NTASKS", str(len(settings) or 1))
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    monkeypatch.setattr("twoplayer.runs.threads.torch.get_num_threads", lambda: 8)
    taken: list[int] = []
    monkeypatch.setattr("twoplayer.runs.threads.torch.set_num_threads", taken.append)
    plan = cast(Plan, SimpleNamespace(threads=None))
    assert threads.settle_threads(compose_config("train", *SMALL, *settings), plan, torch.device("cpu")) is None
    assert taken == [1]
    assert os.environ["OMP_NUM_THREADS"] == "1"


@pytest.mark.process
def test_the_number_that_was_chosen_is_recorded_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        monkeypatch.setattr(
            "twoplayer.runs.threads.choose", lambda numbers, iterate: threads.Trial(2, {1: 0.1, 2: 0.01 * iterate(2) + 0.05})
        )
        summary = play(tmp_path / "run", "budget.images=64", "trick=[ema,r1]")
        assert (summary["threads"], sorted(summary["threads_tried"])) == (2, [1, 2])
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        monkeypatch.setattr("twoplayer.runs.threads.choose", lambda numbers, iterate: pytest.fail("a run that goes on has its number"))
        assert play(tmp_path / "run", "budget.images=128", "trick=[ema,r1]", "resume=auto")["threads"] == 2
        assert torch.get_num_threads() == 1  # as it was before the run
        assert play(tmp_path / "run", "budget.images=192", "trick=[ema,r1]", "resume=auto", "threads=1")["threads"] == 1
        _, checkpoint = checkpoints.newest(tmp_path / "run") or pytest.fail("nothing is saved")
        assert checkpoint["run"]["threads"] == 1
    finally:
        torch.set_num_threads(before)


def test_a_trial_leaves_no_trace_in_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ["budget.images=64", "trick=[ema,r1,replay,instance_noise]"]
    play(tmp_path / "plain", *settings)
    monkeypatch.setattr("twoplayer.runs.threads.torch.get_num_threads", lambda: 2)
    tried: list[float] = []

    def choose_one(numbers: list[int], iterate: Callable[[int], float]) -> threads.Trial:
        tried.extend(iterate(1) for _ in range(3))
        return threads.Trial(1, {1: 1.0})

    monkeypatch.setattr("twoplayer.runs.threads.choose", choose_one)
    play(tmp_path / "tried", *settings)
    assert len(tried) == 3
    assert state_sha256(tmp_path / "tried") == state_sha256(tmp_path / "plain")


def test_a_run_that_has_slowed_says_so_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0, updates=0)
    monkeypatch.setattr("twoplayer.callbacks.pace.time.perf_counter", lambda: clock.now)
    game = SimpleNamespace(clock=SimpleNamespace(updates={}), device=torch.device("cpu"))
    trainer, pace = SimpleNamespace(is_global_zero=True), Pace(20.0)

    def play_on(*rates: float) -> None:
        """Each for four seconds, in which two rates are taken."""
        for rate in rates:
            for _ in range(8):
                clock.now += 0.5
                clock.updates += 0.5 * rate
                game.clock.updates = {"discriminator": clock.updates / 2, "generator": clock.updates / 2}
                pace.on_train_batch_end(trainer, game, *[None] * 3)  # type: ignore[arg-type]

    with caplog.at_level(logging.WARNING):
        play_on(18, 9, 9, 19, 9, 12)
        assert caplog.messages == []
        play_on(6, 4, 2, 2, 2, 2)
    assert len(caplog.messages) == 1
    assert "slow: 2.0 updates/s, down from 20.0" in caplog.messages[0]
    resumed = Pace(0.0)
    resumed.load_state_dict(pace.state_dict())
    assert resumed.state_dict() == {"highest": 20.0}


@pytest.mark.parametrize("value", ["0", "two", "null", "1.5"])
def test_other_numbers_are_refused(value: str) -> None:
    from helpers.games import small
    from twoplayer.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match=f"threads={value}: must be 'auto' or "):
        small(f"threads={value}")
