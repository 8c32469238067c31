"""A run that is killed, signalled, spoiled or started twice resumes exactly."""

import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from helpers import commands
from helpers.games import PROJECT, SEED, SMALL, TOGETHER, WIDTHS, Record, play, state_sha256
from twoplayer.errors import NumericsError
from twoplayer.storage import checkpoints

pytestmark = pytest.mark.process

TRICKS = f"trick=[{','.join(name for name in TOGETHER if name != 'two_learning_rates')}]"
IMAGES = 1600  # 100 iterations
SETTINGS = [
    *["model=gan", *SMALL, *WIDTHS["gan"], TRICKS, "loss=non_saturating"],
    *["trick.pretrain_discriminator.images=64", "trick.instance_noise.fade_images=4000"],
    *[f"budget.images={IMAGES}", "run=run", "resume=auto"],
]


def slow(seconds: float) -> str:
    """The override of a run whose iterations take longer, so that it can be interrupted."""
    return f"+callbacks.slow={{_target_:helpers.interruption_callbacks.Slow,seconds:{seconds}}}"


SLOW = slow(0.004)


def begin(folder: Path, *settings: str) -> commands.Running:
    return commands.start("train.py", *SETTINGS, SLOW, *settings, folder=folder)


def saved_moment(folder: Path) -> int:
    """Images seen of the newest checkpoint; 0 where there is none."""
    return next((saved.images_seen for saved in checkpoints.saved_files(folder / "run")), 0)


def wait_until(running: commands.Running, condition: Callable[[], bool]) -> None:
    """Fails where the command ends before, or takes a minute."""
    until = time.monotonic() + 60
    while not condition():
        assert running.process.is_alive(), running.err.read_text()
        assert time.monotonic() < until
        time.sleep(0.01)


def has_begun(folder: Path, run: str = "run") -> Callable[[], bool]:
    """Whether the first iteration is about to begin."""
    return lambda: any(folder.glob(f"{run}/samples/00000000.png"))


def wait_for_progress(running: commands.Running, folder: Path, beyond: int) -> None:
    """Until the run has saved something newer than this, or ends."""
    wait_until(running, lambda: saved_moment(folder) > beyond)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The state at the end of a run that nobody disturbs."""
    folder = tmp_path_factory.mktemp("whole")
    assert begin(folder).finish().code == 0
    return state_sha256(folder / "run")


@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_moments_resumes_exactly(kills: int, whole: str, tmp_path: Path, record: Record) -> None:
    """Each resume is from a real checkpoint; five kills to a run."""
    draw, held = random.Random(SEED), 0
    for number in range(kills // 5):
        folder = tmp_path / str(number)
        folder.mkdir()
        for _ in range(5):
            before = saved_moment(folder)
            running = begin(folder, "checkpoint.every_images=80")
            wait_for_progress(running, folder, before)
            time.sleep(draw.uniform(0, 0.15))
            assert running.process.is_alive(), running.err.read_text()
            running.send(signal.SIGKILL)
            running.finish()
            assert saved_moment(folder) > before
        finished = begin(folder, "checkpoint.every_images=80").finish()
        assert finished.code == 0, finished.errors
        segments = json.loads((folder / "run" / "summary.json").read_text())["segments"]
        assert len(segments) == 6
        assert all(segment["resumed_from"] > 0 for segment in segments[1:])
        assert sum(segment["trained"] for segment in segments) == IMAGES
        held += 5 * (state_sha256(folder / "run") == whole)
    record("P2", "kill -9 at random moments", kills, held)
    assert held == kills


@pytest.mark.parametrize("trials", [2, pytest.param(50, marks=pytest.mark.slow)])
def test_a_signal_saves_and_ends_the_run(trials: int, whole: str, tmp_path: Path, record: Record) -> None:
    draw, held = random.Random(SEED), 0
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP]
    for trial in range(trials):
        folder, number = tmp_path / str(trial), numbers[trial % 4]
        folder.mkdir()
        running = begin(folder)
        wait_until(running, has_begun(folder))
        time.sleep(draw.uniform(0, 0.5))
        running.send(number)
        finished = running.finish(60)
        summary = json.loads((folder / "run" / "summary.json").read_text())
        good = finished.code == 128 + number and f"ended by {number.name}" in finished.errors and len(finished.errors.splitlines()) == 1
        good = good and summary["status"] == "interrupted" and 0 < summary["images_seen"] == saved_moment(folder) < IMAGES
        assert begin(folder).finish().code == 0
        held += good and state_sha256(folder / "run") == whole
    record("P6", "signals at random moments", trials, held)
    assert held == trials


@pytest.mark.parametrize(
    "ignored", [pytest.param(False, id="SIGHUP", marks=pytest.mark.slow), pytest.param(True, id="SIGHUP ignored", marks=pytest.mark.slow)]
)
def test_a_closed_terminal_does_not_fail_the_run(ignored: bool, tmp_path: Path) -> None:
    ours, theirs = os.openpty()

    def own_terminal() -> None:
        """Make the process the leader of a session with this terminal, so that it gets SIGHUP."""
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)

    running = subprocess.Popen(
        [sys.executable, str(PROJECT / "src" / "train.py"), *SETTINGS, SLOW, "logger=wandb"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=tmp_path,
        preexec_fn=own_terminal,  # noqa: PLW1509 (it takes no lock)
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT / "tests")},
    )
    os.close(theirs)
    shown = b""
    while b"images/s" not in shown:  # the bar is there, and is drawn four times a second
        shown += os.read(ours, 65536)
    os.close(ours)
    code = running.wait(120)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    if ignored:
        assert (code, summary["status"], summary["images_seen"]) == (0, "finished", IMAGES)
    else:
        assert (code, summary["status"]) == (128 + signal.SIGHUP, "interrupted")
        assert 0 < summary["images_seen"] == saved_moment(tmp_path) < IMAGES
        assert "SIGHUP" in summary["error"]


@pytest.mark.parametrize("options", [[], ["-u"]])
def test_a_closed_pipe_does_not_fail_a_command(options: list[str]) -> None:
    ends, writes = os.pipe()
    os.close(ends)
    script = "from twoplayer.commands import terminal; terminal.outlive()\nfor _ in range(3): print('lost' * 9999, flush=True)"
    assert subprocess.run([sys.executable, *options, "-c", script], stdout=writes, check=False).returncode == 0
    os.close(writes)


def test_a_second_signal_ends_the_run_immediately(tmp_path: Path) -> None:
    running = commands.start("train.py", *SETTINGS, slow(60), folder=tmp_path)
    wait_until(running, has_begun(tmp_path))
    time.sleep(0.5)
    running.send(signal.SIGTERM)
    running.send(signal.SIGTERM)  # the same request, delivered twice
    time.sleep(1.5)
    assert running.process.is_alive()
    running.send(signal.SIGTERM)
    started = time.monotonic()
    assert running.finish(30).code == 128 + signal.SIGTERM
    assert time.monotonic() - started < 5


def test_a_signal_ends_a_sweep(tmp_path: Path) -> None:
    settings = [setting for setting in SETTINGS if not setting.startswith(("run=", "trick"))]
    sweep = ["-m", *settings, "trick=[]", "sweep=sweep", "seed=0,1", slow(0.01)]
    running = commands.start("train.py", *sweep, folder=tmp_path)
    wait_until(running, has_begun(tmp_path, "sweep/0_*"))
    time.sleep(0.3)
    running.send(signal.SIGTERM)
    ended = running.finish(60)
    assert ended.code == 128 + signal.SIGTERM
    assert ended.output.splitlines()[-3] == "next", "the table is shown nevertheless"
    assert not list(tmp_path.glob("sweep/1_*"))
    finished = commands.run("train.py", *sweep, folder=tmp_path)
    assert finished.code == 0, finished.errors
    summaries = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("sweep/*/summary.json"))]
    assert [summary["status"] for summary in summaries] == ["finished", "finished"]
    assert [len(summary["segments"]) for summary in summaries] == [2, 1]
    first = next(tmp_path.glob("sweep/0_*/checkpoints"))
    before = sorted(path.stat().st_mtime_ns for path in first.iterdir())
    assert commands.run("train.py", *sweep, folder=tmp_path).code == 0
    assert sorted(path.stat().st_mtime_ns for path in first.iterdir()) == before


def test_a_folder_takes_one_run_at_a_time(tmp_path: Path) -> None:
    running = begin(tmp_path, "budget.images=100000", f"trick.schedule.end_images={IMAGES}")  # which is still there when the second begins
    wait_until(running, has_begun(tmp_path))
    second = commands.start("train.py", *SETTINGS, SLOW, folder=tmp_path, label="second").finish()
    assert second.code == 2
    assert "is using this folder" in second.errors
    assert len(second.errors.splitlines()) == 1
    running.send(signal.SIGKILL)
    running.finish()
    assert begin(tmp_path).finish().code == 0  # the dead hold nothing


@pytest.mark.parametrize("player", ["discriminator", "generator"])
@pytest.mark.parametrize("what", ["cost", "gradient", "weight"])
def test_non_finite_numbers_reach_neither_weights_nor_disk(what: str, player: str, tmp_path: Path, record: Record) -> None:
    spoil = f"+callbacks.spoil={{_target_:helpers.interruption_callbacks.Spoil,what:{what},player:{player},iteration:9}}"
    with pytest.raises(NumericsError) as error:
        play(
            tmp_path / "run",
            "trick=[ema]",
            "checkpoint.every_images=16",
            "callbacks.scalars.every_iterations=1000",
            "budget.images=1600",
            spoil,
        )
    assert error.value.exit_code == 4
    _, checkpoint = checkpoints.newest(tmp_path / "run") or pytest.fail("nothing saved")
    assert checkpoint["run"]["images_seen"] == 9 * 16  # the last before it; nothing of later is on the disk
    assert all(bool(tensor.isfinite().all()) for tensor in checkpoint["state_dict"].values() if isinstance(tensor, torch.Tensor))
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "failed"
    record("P7", f"NaN in a cost, a gradient or a weight ({what}, {player})", 1, 1)


def test_a_non_finite_weight_is_not_saved(tmp_path: Path) -> None:
    overflow = "+callbacks.overflow={_target_:helpers.interruption_callbacks.Overflow,iteration:3}"
    with pytest.raises(NumericsError, match=r"model.generator.* is not finite at 48 images seen"):
        play(tmp_path / "run", "checkpoint.every_images=16", "budget.images=1600", overflow)
    assert saved_moment(tmp_path) == 32


LOOKING = {
    "nothing logged": ["~callbacks.scalars", "metric=none", "~callbacks.samples"],
    "every iteration logged": ["callbacks.scalars.every_iterations=1", "metric=none", "callbacks.samples.every_images=16"],
    "every third iteration logged, and scores": [
        "callbacks.scalars.every_iterations=3",
        "metric.fd.num_samples=64",
        "callbacks.scores.every_images=48",
    ],
    "every iteration logged, and scores": [
        "callbacks.scalars.every_iterations=1",
        "metric.fd.num_samples=64",
        "callbacks.scores.every_images=32",
    ],
}


def test_logging_scores_and_samples_do_not_change_the_weights(tmp_path: Path, data_root: str, record: Record) -> None:
    real = [
        "data._target_=twoplayer.data.mnist.MNIST",
        f"++data.root='{data_root}'",
        "data.num_classes=10",
        "data.image_size=28",
        "data.classifier=mnist",
        "data.batch_size=16",
        "data.num_images=512",
    ]
    states: dict[str, dict[str, torch.Tensor]] = {}
    for index, (name, settings) in enumerate({"as it is": ["metric=none"], "as it is, again": ["metric=none"], **LOOKING}.items()):
        play(tmp_path / str(index), TRICKS, "metric=fd", *real, *settings, "budget.images=320")
        _, checkpoint = checkpoints.newest(tmp_path / str(index)) or pytest.fail("nothing saved")
        states[name] = checkpoint["state_dict"]
    first = states.pop("as it is")
    equal = {
        name: all(torch.equal(tensor, state[key]) for key, tensor in first.items() if isinstance(tensor, torch.Tensor))
        for name, state in states.items()
    }
    record("P10", "runs of the same seed", 1, int(equal.pop("as it is, again")))
    record("P3", "ways of looking at a run", len(equal), sum(equal.values()))
    assert all(equal.values()), equal
