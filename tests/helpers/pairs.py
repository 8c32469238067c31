"""Two ranks, started as torchrun would, which walk through many small runs.

They are forked from a process that has everything imported.
"""

import os
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from helpers import commands

DUMP = "+callbacks.dump={_target_:helpers.rank_callbacks.Dump}"
"""A callback with which each rank leaves its state at the end of a run."""


def free_port() -> int:
    """Below the ports that the system gives to its own connections, so that it stays free."""
    for port in random.sample(range(15000, 30000), 100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
    raise OSError("there is no free port")


def walk(plays: list[tuple[Callable[..., None], tuple[object, ...]]], timeout: float = 300) -> None:
    """Call each of these functions on both ranks, each with a rendezvous of its own."""
    first = free_port()
    ports = [first + index for index in range(len(plays))]
    processes = [commands._server.Process(target=_rank, args=(rank, plays, ports)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert codes == [0, 0]


def _rank(rank: int, plays: list[tuple[Callable[..., None], tuple[object, ...]]], ports: list[int]) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0"}
    os.environ |= {"TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    from pytorch_lightning.utilities import rank_zero_only

    rank_zero_only.rank = rank  # type: ignore[attr-defined]
    torch.set_num_threads(1)
    for (function, arguments), port in zip(plays, ports, strict=True):
        os.environ["MASTER_PORT"] = str(port)
        function(*arguments)


def play(folder: str, model: str, *overrides: str) -> None:
    """One run."""
    from helpers import games

    games.play(Path(folder), *overrides, "trainer.devices=2", model=model)


def go_on(folder: str, checkpoint: str, model: str, *overrides: str) -> None:
    """One run from a checkpoint of another, whose name begins like this."""
    (saved,) = Path(checkpoint).parent.glob(f"{Path(checkpoint).name}*")
    play(folder, model, *overrides, f"resume={saved}")


def play_recipe(folder: str, name: str, *overrides: str) -> None:
    """One run of a recipe."""
    from helpers import games

    games.play_recipe(Path(folder), name, *overrides, "trainer.devices=2")


def dumps(folder: Path) -> list[dict[str, Any]]:
    """What each rank left at the end of a run."""
    return [torch.load(path, weights_only=True) for path in sorted(folder.glob("rank*.pt"))]


def differences(ranks: list[dict[str, Any]]) -> list[str]:
    """The names of shared tensors that the two ranks do not share."""
    one, two = (rank["shared"] for rank in ranks)
    assert one.keys() == two.keys()
    return [name for name in one if not torch.equal(one[name], two[name])]
