"""Commands run as a user would run them, each in a process of its own that is forked from one with everything imported."""

import multiprocessing
import os
import runpy
import sys
from pathlib import Path
from typing import NamedTuple

from twoplayer import CONF

PROJECT = CONF.parent
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["twoplayer.training", "twoplayer.saved", "twoplayer.command", "wandb", "torchmetrics.image.fid"])


class Finished(NamedTuple):
    """How a command ended."""

    code: int
    output: str
    errors: str


def run(script: str, *arguments: str, folder: Path, timeout: float = 300, **environment: str) -> Finished:
    """`python src/<script> <arguments>` in a folder."""
    out, err = folder / ".stdout", folder / ".stderr"
    process = _server.Process(target=_run, args=(script, arguments, str(folder), environment, str(out), str(err)))
    process.start()
    process.join(timeout)
    if process.is_alive():
        process.kill()
        process.join()
        raise TimeoutError(out.read_text() + err.read_text())
    finished = Finished(process.exitcode or 0, out.read_text(), err.read_text())
    out.unlink()
    err.unlink()
    return finished


def _run(script: str, arguments: tuple[str, ...], folder: str, environment: dict[str, str], out: str, err: str) -> None:
    for stream, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT / "tests"), **environment}
    os.chdir(folder)
    sys.path[:0] = [str(PROJECT / "src"), str(PROJECT / "tests")]
    sys.argv = [str(PROJECT / "src" / script), *arguments]
    import torch

    torch.set_num_threads(1)
    runpy.run_path(sys.argv[0], run_name="__main__")
