"""Running training jobs as processes, several at a time; each resumes where it was interrupted."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from hydra.errors import HydraException

from twoplayer.commands.messages import explain
from twoplayer.config.compose import compose_run
from twoplayer.config.mistakes import in_words
from twoplayer.errors import ConfigurationError, NumericsError, TwoplayerError
from twoplayer.metrics import recorded
from twoplayer.overrides import PLACE, merged, without
from twoplayer.paths import CONF, override, shown
from twoplayer.signals import Interruption, listening, received
from twoplayer.storage.run_folder import read_overrides, read_summary

SAVED = "the runs are saved; the same command goes on with them"
SECONDS_BETWEEN_LOOKS = 0.1
SAY_AFTER_SECONDS = 60.0
"""How often a job that runs long says how far it is."""


class Job(NamedTuple):
    """A run to train, with the folder that it gets."""

    folder: Path
    overrides: tuple[str, ...]
    sweep: Path
    """The folder of all."""

    def finished(self) -> bool:
        """Whether the folder holds the finished run of exactly these overrides."""
        known = read_overrides(self.folder) if read_summary(self.folder).get("status") == "finished" else None
        return known is not None and _defining(known) == _defining(self.overrides)


class JobError(TwoplayerError):
    """A job could not run; the exit code is that of the job."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def _defining(overrides: Iterable[str]) -> list[str]:
    return sorted(without(overrides, *PLACE, "threads"))


def score_line(job: Job) -> str:
    """What the leading score on the validation split is, and how long the run took."""
    summary = read_summary(job.folder)
    time = f"{(summary.get('seconds') or 0) / 60:.1f} min"
    for score in recorded.read(summary)[:1]:
        if score.validation is not None:
            return f"{score.name}_validation {recorded.digits(score.validation)}, {time}"
    return f"{summary.get('status', 'failed')}, {time}"


def check_run(overrides: Sequence[str], where: str) -> None:
    """Raise ConfigurationError, which names `where`, if a run of these overrides cannot begin."""
    try:
        config = compose_run(*overrides)
    except Exception as error:
        told = in_words(error, "train", overrides) if isinstance(error, HydraException) else None
        raise ConfigurationError(f"{where}: {told or explain(error)}") from error
    if config.referee and config.referee.act == "rollback":
        raise ConfigurationError(
            f"{where}: referee.act=rollback: runs that are compared get the same settings and budget to their end; set referee.act=stop or warn"
        )


class Pool:
    """Places for jobs that are trained at the same time."""

    def __init__(self, at_once: int) -> None:
        self._running: dict[int, _Process] = {}
        self._places = range(at_once)

    def is_free(self) -> bool:
        """Whether one more job may start."""
        return len(self._running) < len(self._places)

    def is_empty(self) -> bool:
        """Whether no job is running."""
        return not self._running

    def start(self, job: Job) -> None:
        """Start a job in a free place."""
        place = next(place for place in self._places if place not in self._running)
        self._running[place] = _Process(job, place, len(self._places))

    def ended(self) -> list[Job]:
        """The jobs that have ended since the last call, or have met numbers that are not finite.

        Raises Interruption if this process or a job has received a signal, JobError if a job ended
        with any other error; before, all jobs are saved and ended.
        """
        if received():
            self.stop()
            raise Interruption(received(), SAVED)
        done = []
        for place, process in list(self._running.items()):
            code = process.popen.poll()
            if code is None:
                process.say()
                continue
            del self._running[place]
            process.close()
            if code not in (0, NumericsError.exit_code):
                self.stop()
                if received() or code in (128 + signal.SIGTERM, 128 + signal.SIGINT):
                    raise Interruption(received() or code - 128, SAVED)
                message = process.last().removeprefix("error: ") or f"ended with {code}"
                raise JobError(f"{shown(process.job.folder)}: {message}", code if code > 0 else 1)
            done.append(process.job)
        return done

    def stop(self, *jobs: Job) -> None:
        """End these jobs, or all, and wait until they are saved."""
        chosen = {place: process for place, process in self._running.items() if not jobs or process.job in jobs}
        for process in chosen.values():
            process.popen.terminate()
        for place, process in chosen.items():
            process.popen.wait()
            process.close()
            del self._running[place]

    def kill(self) -> None:
        """End all jobs at once."""
        for process in self._running.values():
            process.popen.kill()


def run_jobs(jobs: Sequence[Job], at_once: int, ended: Callable[[Job], str]) -> None:
    """Train the jobs that are not finished, `at_once` at a time, and print a line for each.

    `ended(job)` is called after each, and returns what the line says.

    Raises what `Pool.ended` does.
    """
    waiting = deque(job for job in jobs if not job.finished())
    if len(waiting) < len(jobs):
        print(f"{len(jobs) - len(waiting)} of {len(jobs)} runs are finished already", flush=True)
    total, number, begin = len(waiting), 0, time.monotonic()
    pool = Pool(at_once)
    with listening(pool.kill):
        while waiting or not pool.is_empty():
            while waiting and pool.is_free():
                pool.start(waiting.popleft())
            for job in pool.ended():
                number += 1
                seconds = (time.monotonic() - begin) / number * (total - number)
                left = f"; about {seconds / 60:,.0f} min left" if number < total else ""
                print(f"{number} of {total}  {job.folder.name}: {ended(job)}{left}", flush=True)
            time.sleep(SECONDS_BETWEEN_LOOKS)


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
        words = [*merged(more, job.overrides), override("run", job.folder), override("sweep", job.sweep), "resume=auto"]
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
        """Close the file, which goes if the run was saved: the run has its own train.log."""
        self._file.close()
        if self.popen.returncode in (0, 128 + signal.SIGTERM, 128 + signal.SIGINT):
            self._log.unlink(missing_ok=True)
