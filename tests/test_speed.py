"""What an iteration costs, counted, not timed: operators, and waits of the host for the device."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning import Callback
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.games import CPU, composed, fit
from twoplayer.callbacks.scalars import Scalars
from twoplayer.game.build import build_game

WAITS = ("aten._local_scalar_dense.default", "aten.nonzero.default", "aten.masked_select.default", "aten.item.default")


class Count(TorchDispatchMode):
    """Operators by name. The optimizers' own numbers are on the host: reading them never waits."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: Counter[str] = Counter()
        self.on_host: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(function)
        if not (name in WAITS and args[0].data_ptr() in self.on_host):
            self.operators[name] += 1
        return function(*args, **(kwargs or {}))


class Between(Callback):
    """Counts from the start of one iteration to the end of another, other callbacks included."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last, self.count = first, last, Count()

    def on_train_batch_start(self, trainer: Any, game: Any, *others: Any) -> None:
        if game.clock.iteration == self.first:
            self.count.on_host = {tensor.data_ptr() for name, tensor in game.numbers.items() if name.startswith("optimizer.")}
            self.count.__enter__()

    def on_train_batch_end(self, trainer: Any, game: Any, *others: Any) -> None:
        if game.clock.iteration == self.last:
            self.count.__exit__(None, None, None)


@pytest.mark.parametrize(
    ("model", "tricks", "most"), [("dcgan", "[ema]", 445), ("dcgan_paper", "[ema]", 385), ("gan", "[ema]", 440), ("gan", "[]", 425)]
)
def test_an_iteration_costs_no_more_operators_than_it_did_and_waits_for_nothing(
    model: str, tricks: str, most: int, tmp_path: Path, data_root: str
) -> None:
    config = composed(f"model={model}", f"trick={tricks}", f"data.root={data_root}", "data.batch_size=4", "metric=none", "precision=fp32")
    between = Between(3, 7)
    fit(config, tmp_path, 8, Scalars(every_iterations=100), between, game=build_game(config, CPU))
    assert {name: between.count.operators[name] for name in WAITS if between.count.operators[name]} == {}
    assert between.count.operators.total() / 4 <= most
