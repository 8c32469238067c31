"""Fixtures of all tests."""

import json
import os
from datetime import date

import pytest
import torch

from helpers.games import PROJECT, SEED, Record
from twoplayer.distributed.environment import RANK_VARIABLES


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the ranks or the threads of another."""
    torch.set_num_threads(1)
    for name in RANK_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Notes what was tried for a promise, and how often it held, for RELIABILITY.md: `record("P2", "kills", tried, held)`."""

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
    """The folder with the real data, fetched once."""
    return os.environ.get("TWOPLAYER_DATA", str(PROJECT / "data"))
