"""A save is all or nothing, damage is detected, and running out of disk or memory is explained."""

import errno
import itertools
import json
import multiprocessing
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from helpers import commands
from helpers.games import SEED, SMALL, WIDTHS, Record, play, state_sha256
from twoplayer.errors import ConfigurationError, DataError, ResourceError, out_of_resources
from twoplayer.storage import checkpoints, lock
from twoplayer.storage.checkpoints import DurableCheckpoints

_server = multiprocessing.get_context("forkserver")


def content(images_seen: int, size: int = 100) -> dict[str, Any]:
    return {"state_dict": {"weights": torch.full((size,), float(images_seen))}, "run": {"images_seen": images_seen}}


def save(run: Path, images_seen: int, size: int = 100) -> Path:
    plugin = DurableCheckpoints()
    plugin.save_checkpoint(content(images_seen, size), run / "checkpoints" / f"{images_seen:08}.ckpt")
    checkpoints.keep(run, None)
    assert plugin.last is not None
    return plugin.last.path


def save_for_ever(run: str, scratch: str) -> None:
    os.environ["TMPDIR"] = tempfile.tempdir = scratch
    for images_seen in itertools.count(1):
        save(Path(run), images_seen, 4_000_000)


@pytest.fixture
def other_file_system() -> Iterator[Path]:
    """A folder for temporary files on another file system than the run's."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == Path(tempfile.gettempdir()).stat().st_dev:
        pytest.skip("there is no second file system")
    folder = Path(tempfile.mkdtemp(dir=memory))
    yield folder
    shutil.rmtree(folder)


def test_a_checkpoint_that_is_removed_while_a_folder_is_listed_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, removed = save(tmp_path, 160), save(tmp_path, 320)
    listed = Path.glob

    def glob(self: Path, pattern: str) -> Iterator[Path]:
        found = list(listed(self, pattern))
        removed.unlink(missing_ok=True)  # by the run, which is at work
        return iter(found)

    monkeypatch.setattr(Path, "glob", glob)
    assert [saved.path for saved in checkpoints.saved_files(tmp_path)] == [kept]


@pytest.mark.process
@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_a_kill_during_a_save_leaves_nothing_unreadable(kills: int, tmp_path: Path, other_file_system: Path, record: Record) -> None:
    draw, unreadable, during = random.Random(SEED), 0, 0
    save(tmp_path, 0)
    for kill in range(kills):
        process = _server.Process(target=save_for_ever, args=(str(tmp_path), str(other_file_system)))
        process.start()
        assert process.pid is not None
        until = time.monotonic() + 5
        while not any((tmp_path / "checkpoints").glob(".*.part")) and time.monotonic() < until:
            pass  # it is about to write
        if kill % 2:
            time.sleep(draw.uniform(0, 0.03))  # into what follows a save, or the next one
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        during += any((tmp_path / "checkpoints").glob(".*.part"))
        for saved in checkpoints.saved_files(tmp_path):
            try:
                checkpoints.read(saved.path)
            except DataError:
                unreadable += 1
        newest = checkpoints.saved_files(tmp_path)[0].images_seen
        checkpoints.tidy(tmp_path, newest)
        assert not any((tmp_path / "checkpoints").glob(".*"))
    assert during > kills / 10  # kills do fall into saves
    record("P4", "kill -9 during a save with TMPDIR on another file system", kills, kills - unreadable)
    assert unreadable == 0


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: Record) -> None:
    old = save(tmp_path, 16)

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name, broken in (("fsync", full), ("replace", full)):
        with monkeypatch.context() as patched:
            patched.setattr(os, name, broken)
            with pytest.raises(ResourceError, match=r"No space left on device; a checkpoint takes [\d,]+ bytes") as error:
                save(tmp_path, 32)
            assert error.value.exit_code == 5
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, 0))  # type: ignore[attr-defined]
        with pytest.raises(ResourceError, match=r"takes [\d,]+ bytes and 0 are free"):
            save(tmp_path, 32)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [old.name]
    assert checkpoints.read(old)["run"]["images_seen"] == 16
    record("P4", "saves on a full disk", 3, 3)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to(tmp_path: Path) -> None:
    old = save(tmp_path, 16)
    old.parent.chmod(0o500)
    try:
        with pytest.raises(ResourceError, match="is not writable"):
            save(tmp_path, 32)
    finally:
        old.parent.chmod(0o700)
    assert checkpoints.read(old)["run"]["images_seen"] == 16


def test_a_missing_permission_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = save(tmp_path, 16)

    def denied(*arguments: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "replace", denied)
    with pytest.raises(ResourceError, match="is not writable: change its permissions"):
        save(tmp_path, 32)
    assert checkpoints.read(old)["run"]["images_seen"] == 16


def flip(content: bytes, draw: random.Random) -> bytes:
    position = draw.randrange(len(content))
    return content[:position] + bytes([content[position] ^ 1 << draw.randrange(8)]) + content[position + 1 :]


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "one bit that has turned": flip,
    "truncation": lambda content, draw: content[: draw.randrange(len(content))],
    "an empty file": lambda content, draw: b"",
    "a text file": lambda content, draw: b"this is no checkpoint\n",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("trials", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_damage_is_seen_and_the_one_before_is_used(
    damage: str, trials: int, tmp_path: Path, record: Record, caplog: pytest.LogCaptureFixture
) -> None:
    draw, held = random.Random(SEED), 0
    older, newer = save(tmp_path, 16), save(tmp_path, 32)
    whole = newer.read_bytes()
    for _ in range(trials):
        newer.write_bytes(DAMAGES[damage](whole, draw))
        caplog.clear()
        found = checkpoints.newest(tmp_path)
        held += found is not None and found[0] == older and newer.name in caplog.text
    record("P5", damage, trials, held)
    assert held == trials


def test_damage_without_a_digest_in_the_name_is_seen_too(tmp_path: Path) -> None:
    path = save(tmp_path, 16).rename(tmp_path / "mine.ckpt")
    whole = path.read_bytes()
    position = whole.index(torch.full((100,), 16.0).numpy().tobytes())  # torch.load itself would not notice
    path.write_bytes(whole[:position] + b"\1" + whole[position + 1 :])
    torch.load(path, weights_only=True)
    with pytest.raises(DataError, match=r"mine\.ckpt"):
        checkpoints.read(path)


def test_a_run_goes_on_from_the_generation_before(tmp_path: Path) -> None:
    play(tmp_path / "whole", "budget.images=96", "trick=[ema]")
    play(tmp_path / "run", "budget.images=64", "checkpoint.every_images=32", "trick=[ema]")
    newest = checkpoints.saved_files(tmp_path / "run")[0].path
    newest.write_bytes(newest.read_bytes()[:-1])
    summary = play(tmp_path / "run", "budget.images=96", "checkpoint.every_images=32", "trick=[ema]", "resume=auto")
    assert summary["segments"][-1] == {"resumed_from": 32, "trained": 64}
    assert state_sha256(tmp_path / "run") == state_sha256(tmp_path / "whole")
    assert newest.with_name(newest.name + ".broken").exists()  # set aside, not lost


def test_a_save_says_what_it_cost(tmp_path: Path) -> None:
    saved = play(tmp_path / "run", "budget.images=32")["checkpoint"]
    assert (tmp_path / "run" / "checkpoints" / saved["file"]).stat().st_size == saved["bytes"]
    assert 0 < saved["seconds"] < 10


MEMORY = [
    (MemoryError(), "out of memory: lower data.batch_size"),
    (RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 8589934592 bytes."), "8,589,934,592 bytes requested"),
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.25 GiB is free."), r"2.00 GiB requested, 1.25 GiB free"),
    (OSError(errno.ENOSPC, "No space left on device", "metrics.csv"), "metrics.csv: No space left on device; free some space"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "message"), MEMORY, ids=lambda value: type(value).__name__)
def test_running_out_is_explained(error: Exception, message: str, record: Record) -> None:
    explained = out_of_resources(error)
    assert explained is not None
    assert message in str(explained)
    assert explained.exit_code == 5
    record("P14", f"errors of memory and disk explained ({type(error).__name__})", 1, 1)


def test_other_errors_are_not_mistaken_for_it() -> None:
    assert out_of_resources(RuntimeError("shape mismatch")) is None
    assert out_of_resources(FileNotFoundError(errno.ENOENT, "No such file", "x")) is None


@pytest.mark.process
def test_memory_that_is_not_there_costs_one_line(tmp_path: Path, record: Record) -> None:
    huge = [*SMALL, *WIDTHS["gan"], "model=gan", "model.generator.widths=[2000000000,2000000]", "run=run"]
    finished = commands.run("train.py", *huge, folder=tmp_path)
    assert finished.code == 5, finished.errors
    assert "out of memory" in finished.errors
    assert len(finished.errors.splitlines()) == 1
    record("P14", "a model larger than the memory", 1, 1)


@pytest.mark.process
def test_a_disk_that_fills_up_costs_one_line_and_the_run_goes_on(tmp_path: Path, record: Record) -> None:
    settings = ["model=gan", *SMALL, *WIDTHS["gan"], "checkpoint.every_images=32", "budget.images=320", "resume=auto", "run=run"]
    full = "+callbacks.full={_target_:helpers.interruption_callbacks.FullDisk,iteration:7}"
    finished = commands.run("train.py", *settings, full, folder=tmp_path)
    assert finished.code == 5
    assert "bytes" in finished.errors
    assert len(finished.errors.splitlines()) == 1
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "failed"
    newest = checkpoints.newest(tmp_path / "run")
    assert newest is not None
    assert newest[1]["run"]["images_seen"] == 96
    record("P14", "a disk that fills up during a run", 1, 1)


def test_a_folder_that_another_process_looks_at_can_be_taken(tmp_path: Path) -> None:
    looking = FileLock(tmp_path / lock.FILE, thread_local=False)
    looking.acquire()
    threading.Timer(0.05, looking.release).start()
    lock.acquire(tmp_path)
    lock.release(tmp_path)
    (tmp_path / f"{lock.FILE}.owner").unlink(missing_ok=True)
    with FileLock(tmp_path / lock.FILE), pytest.raises(ConfigurationError, match="another process is using this folder"):
        lock.acquire(tmp_path)
