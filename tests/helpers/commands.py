"""Commands run as a user would run them.

Each in a process of its own, forked from one with everything imported.
"""

import multiprocessing
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import NamedTuple

from twoplayer import signals
from twoplayer.paths import CONF

PROJECT = CONF.parent
os.environ["PYTHONPATH"] = str(PROJECT / "tests")  # by which the server finds what it imports ahead
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(
    [
        *("helpers.once", "helpers.games", "twoplayer.runs.saved", "twoplayer.commands.entry", "wandb", "torchmetrics.image.fid"),
        *("matplotlib.figure", "matplotlib.backends.backend_agg"),
    ]
)


class Finished(NamedTuple):
    """How a command ended."""

    code: int
    output: str
    errors: str


class Running:
    """A command at work."""

    def __init__(self, script: str, arguments: tuple[str, ...], folder: Path, environment: dict[str, str], label: str) -> None:
        self.out, self.err = folder / f".stdout{label}", folder / f".stderr{label}"
        self.process = _server.Process(target=_run, args=(script, arguments, str(folder), environment, str(self.out), str(self.err)))
        self.process.start()

    def send(self, number: int) -> None:
        """A signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def finish(self, timeout: float = 300) -> Finished:
        """Wait for its end."""
        self.process.join(timeout)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
            raise TimeoutError(self.out.read_text() + self.err.read_text())
        finished = Finished(self.process.exitcode or 0, self.out.read_text(), self.err.read_text())
        self.out.unlink()
        self.err.unlink()
        return finished


def start(script: str, *arguments: str, folder: Path, label: str = "", **environment: str) -> Running:
    """`python src/<script> <arguments>` in a folder."""
    return Running(script, arguments, folder, environment, label)


def run(script: str, *arguments: str, folder: Path, timeout: float = 300, **environment: str) -> Finished:
    """`python src/<script> <arguments>` in a folder, to its end."""
    return start(script, *arguments, folder=folder, **environment).finish(timeout)


def _run(script: str, arguments: tuple[str, ...], folder: str, environment: dict[str, str], out: str, err: str) -> None:
    for stream, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT / "tests"), **environment}
    for number in signals.SIGNALS:  # whoever has started the tests may have had some of them ignored
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    os.chdir(folder)
    sys.path[:0] = [str(PROJECT / "src"), str(PROJECT / "tests")]
    sys.argv = [str(PROJECT / "src" / script), *arguments]
    import torch
    from pytorch_lightning.utilities import rank_zero_only

    # Imported before the environment told which rank this is.
    rank_zero_only.rank = int(environment.get("RANK", environment.get("SLURM_PROCID", "0")))  # type: ignore[attr-defined]
    torch.set_num_threads(1)
    runpy.run_path(sys.argv[0], run_name="__main__")
