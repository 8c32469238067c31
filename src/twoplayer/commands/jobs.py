"""Running training jobs as processes, several at a time; each resumes where it was interrupted."""

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from omegaconf import OmegaConf

from twoplayer.errors import NumericsError, TwoplayerError
from twoplayer.paths import CONF, override, shown
from twoplayer.runs.advice import LEFT_OUT, setting_of
from twoplayer.signals import Interruption, listening, received
from twoplayer.storage.run_folder import read_summary

SAY_AFTER_SECONDS = 60.0
"""How often a job that runs long says how far it is."""


class Job(NamedTuple):
    """A run to train, with the folder that it gets."""

    folder: Path
    overrides: tuple[str, ...]

    def finished(self) -> bool:
        """Whether the folder holds the finished run of exactly these overrides."""
        file = self.folder / ".hydra" / "overrides.yaml"
        if read_summary(self.folder).get("status") != "finished" or not file.is_file():
            return False
        return _defining(map(str, OmegaConf.load(file))) == _defining(self.overrides)


class JobError(TwoplayerError):
    """A job could not run; the exit code is that of the job."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def _defining(overrides: Iterable[str]) -> list[str]:
    return sorted(word for word in overrides if setting_of(word) not in (*LEFT_OUT, "threads"))


def merged(*parts: Sequence[str]) -> tuple[str, ...]:
    """Overrides in one list; one that sets the same as an earlier one replaces it."""
    found: dict[str, str] = {}
    for word in (word for part in parts for word in part):
        found[setting_of(word)] = word
    return tuple(found.values())


def run_jobs(jobs: Sequence[Job], at_once: int, ended: Callable[[Job], str]) -> None:
    """Train the jobs that are not finished, `at_once` at a time, and print a line for each.

    `ended(job)` is called after each, and returns what the line says. A run with numbers that are
    not finite has ended, too. Signals are passed on, so that all runs are saved.

    Raises Interruption after a signal, JobError if a job ends with any other error.
    """
    waiting = deque(job for job in jobs if not job.finished())
    if len(waiting) < len(jobs):
        print(f"{len(jobs) - len(waiting)} of {len(jobs)} runs are finished already", flush=True)
    total, number, begin = len(waiting), 0, time.monotonic()
    running: dict[int, _Process] = {}

    def end_all() -> None:
        for process in running.values():
            process.popen.kill()

    with listening(end_all):
        while waiting or running:
            while waiting and len(running) < at_once and not received():
                slot = next(slot for slot in range(at_once) if slot not in running)
                running[slot] = _Process(waiting.popleft(), slot, at_once)
            if received():
                _stop(running)
                raise Interruption(received(), "the runs are saved; the same command goes on with them")
            for slot, process in list(running.items()):
                code = process.popen.poll()
                if code is None:
                    process.say()
                    continue
                del running[slot]
                process.close()
                if code not in (0, NumericsError.exit_code):
                    _stop(running)
                    if received() or code in (130, 143):
                        raise Interruption(received() or code - 128, "the runs are saved; the same command goes on with them")
                    raise JobError(f"{shown(process.job.folder)}: {process.last() or f'ended with {code}'}", code if code > 0 else 1)
                number += 1
                seconds = (time.monotonic() - begin) / number * (total - number)
                left = f"; about {seconds / 60:,.0f} min left" if number < total else ""
                print(f"{number} of {total}  {process.job.folder.name}: {ended(process.job)}{left}", flush=True)
            time.sleep(0.1)


class _Process:
    """The process of a job, and the file with its output."""

    def __init__(self, job: Job, slot: int, at_once: int) -> None:
        self.job = job
        job.folder.parent.mkdir(parents=True, exist_ok=True)
        self._log = job.folder.with_name(f"{job.folder.name}.log")
        self._file = self._log.open("w")
        self._said = time.monotonic()
        environment = dict(os.environ)
        more = []
        if at_once > 1:
            import torch

            more = [f"threads={max(1, torch.get_num_threads() // at_once)}"]
            seen = environment.get("CUDA_VISIBLE_DEVICES")
            gpus = seen.split(",") if seen else [str(number) for number in range(torch.cuda.device_count())]
            if gpus:
                environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
        words = [*merged(more, job.overrides), override("run", job.folder), "resume=auto"]
        self.popen = subprocess.Popen(
            [sys.executable, str(CONF.parent / "src" / "train.py"), *words], stdout=self._file, stderr=subprocess.STDOUT, env=environment
        )

    def last(self) -> str:
        """The last line of its output."""
        lines = self._log.read_text(errors="replace").split("\n") if self._log.is_file() else []
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def say(self) -> None:
        """Print how far it is, once a minute."""
        if time.monotonic() - self._said > SAY_AFTER_SECONDS:
            self._said = time.monotonic()
            print(f"  {self.job.folder.name}: {self.last()}", flush=True)

    def close(self) -> None:
        """Close the file, which goes if the run went well: the run has its own train.log."""
        self._file.close()
        if self.popen.returncode == 0:
            self._log.unlink(missing_ok=True)


def _stop(running: Mapping[int, "_Process"]) -> None:
    """Let all runs save, and wait for them."""
    for process in running.values():
        process.popen.terminate()
    for process in running.values():
        process.popen.wait()
        process.close()
