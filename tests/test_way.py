"""The way from a configuration to a finished run does each thing once."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers import commands
from helpers.games import SMALL, WIDTHS, play, small
from twoplayer.game.game import Game
from twoplayer.runs.plan import message, plan_run, receive
from twoplayer.storage import checkpoints, lock

Calls = Counter[str]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """How often checkpoints were read and games were built."""
    counted: Calls = Counter()

    def count(owner: Any, name: str) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        def counting(*arguments: Any, **settings: Any) -> Any:
            counted[name] += 1
            return original(*arguments, **settings)

        monkeypatch.setattr(owner, name, counting)

    count(checkpoints, "read")
    count(Game, "__init__")
    return counted


def test_a_resumed_run_reads_its_checkpoint_once(tmp_path: Path, calls: Calls) -> None:
    play(tmp_path / "run", "budget.images=32", "threads=1")
    calls.clear()
    assert play(tmp_path / "run", "budget.images=64", "resume=auto")["resumed_from"] == 32
    assert calls == {"read": 1, "__init__": 1}


def test_weights_of_another_run_are_read_once_into_one_game(tmp_path: Path, calls: Calls) -> None:
    play(tmp_path / "run", "budget.images=32", "threads=1")
    calls.clear()
    play(tmp_path / "next", "budget.images=32", "threads=1", f"init_from={tmp_path / 'run'}")
    assert calls == {"read": 1, "__init__": 1}


def test_another_rank_gets_the_plan_of_the_first(tmp_path: Path) -> None:
    play(tmp_path / "run", "budget.images=32", "threads=1")
    config = small("budget.images=64", "threads=1", "resume=auto", model="gan")
    plan = plan_run(config, tmp_path / "run")
    try:
        their_config, theirs = receive(json.loads(json.dumps(message(config, plan))))
    finally:
        lock.release(plan.folder)
    assert their_config == config
    assert (theirs.folder, theirs.identity, theirs.images_seen) == (plan.folder, plan.identity, 32)
    assert theirs.checkpoint is not None
    assert plan.checkpoint is not None
    assert theirs.checkpoint.path == plan.checkpoint.path


def test_a_plan_that_fails_gives_the_folder_back(tmp_path: Path) -> None:
    play(tmp_path / "run", "budget.images=32", "threads=1")
    for _ in range(2):
        with pytest.raises(Exception, match="this folder already contains a run"):
            plan_run(small(model="gan"), tmp_path / "run")
    assert (tmp_path / "run").resolve() not in lock._held


@pytest.mark.process
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux")
def test_a_rank_does_not_outlive_a_killed_command(tmp_path: Path) -> None:
    settings = ["model=gan", *SMALL, *WIDTHS["gan"], "trainer.devices=2", "run=run"]
    running = commands.start("train.py", *settings, "budget.images=1000000", folder=tmp_path)
    parent = running.process.pid
    until = time.monotonic() + 120
    while not (ranks := [pid for pid in _processes() if _variable(pid, "TWOPLAYER_PARENT") == str(parent)]):
        assert running.process.is_alive(), running.err.read_text()
        assert time.monotonic() < until
        time.sleep(0.05)
    running.send(signal.SIGKILL)
    running.process.join()
    until = time.monotonic() + 60
    while any(_alive(pid) for pid in ranks):
        assert time.monotonic() < until, "a rank is still there"
        time.sleep(0.05)


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _variable(pid: int, name: str) -> str | None:
    """A variable of the environment that a process was started with."""
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return None
    return dict(entry.partition("=")[::2] for entry in entries).get(name)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
