"""Captured updates give the same run as eager ones.

Graphs need a GPU; all around them is tried with a stand-in that calls its function again.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from helpers.games import CPU, fit, play, small
from twoplayer.callbacks.scalars import Scalars
from twoplayer.config.hardware import refuse_hardware
from twoplayer.errors import ConfigurationError
from twoplayer.game import engine
from twoplayer.game.build import build_game
from twoplayer.game.capture import WARM_UP, CannotCaptureError, CapturedUpdate, Graph, Result, changed_tensors
from twoplayer.game.engine import Captured
from twoplayer.game.game import Game

TRICKS = ["trick=[ema,r1,instance_noise,schedule]", "trick.r1.every_updates=3", "trick.schedule.end_images=200"]


class StandIn:
    """Captures without effect, as a GPU does; a replay calls the function again."""

    def __init__(self) -> None:
        self.captured = self.replayed = 0
        self.state: Callable[[], Sequence[Tensor]]

    def capture(self, function: Callable[[], Result]) -> tuple[Graph, Result]:
        self.captured += 1
        before, random = [tensor.detach().clone() for tensor in self.state()], torch.get_rng_state()
        cost, scalars = function()
        with torch.no_grad():
            for tensor, value in zip(self.state(), before, strict=True):
                tensor.copy_(value)
        torch.set_rng_state(random)
        outer = self

        class Again:
            def replay(self) -> None:
                outer.replayed += 1
                new_cost, new_scalars = function()
                cost.copy_(new_cost)
                for name, value in new_scalars.items():
                    scalars[name].copy_(value)

        return Again(), (cost, scalars)


class Nothing:
    """A graph that has caught nothing."""

    def replay(self) -> None:
        return None


def captured_game(monkeypatch: pytest.MonkeyPatch, stand_in: StandIn, *settings: str) -> Game:
    monkeypatch.setattr(engine, "capture_cuda", stand_in.capture)
    monkeypatch.setattr("twoplayer.game.build.resolve_engine", lambda name: Captured())
    game = build_game(small(*TRICKS, *settings), CPU)
    stand_in.state = lambda: changed_tensors(game, game.player_optimizers.values())
    return game


def state(game: Game) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in changed_tensors(game, game.player_optimizers.values())]


def test_a_captured_game_is_the_same_game(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scalars = [Scalars(every_iterations=10) for _ in range(2)]
    written = fit(small(*TRICKS), tmp_path / "written", 13, scalars[0])
    stand_in = StandIn()
    game = captured_game(monkeypatch, stand_in)
    captured = fit(small(*TRICKS), tmp_path / "captured", 13, scalars[1], game=game)
    assert stand_in.captured == 3  # D with and without R1, and G
    assert stand_in.replayed == 2 * 13 - 3 * WARM_UP
    assert all(torch.equal(one, other) for one, other in zip(state(written), state(captured), strict=True))
    assert all(torch.equal(value, captured.scalars[name]) for name, value in written.scalars.items())
    sums = [callback.state_dict()["sums"][0] for callback in scalars]
    assert torch.equal(*sums)


def test_numbers_that_a_graph_would_hold_have_it_captured_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moving = ["+trick.schedule.to.optimizer.generator.beta2=0.5", "trick.schedule.end_images=128"]
    written = fit(small(*TRICKS, *moving), tmp_path / "written", 14)
    stand_in = StandIn()
    captured = fit(small(*TRICKS, *moving), tmp_path / "captured", 14, game=captured_game(monkeypatch, stand_in, *moving))
    assert 0 < stand_in.replayed <= 2 * (14 - 128 // 16)  # while beta2 moves no graph is of any use
    assert all(torch.equal(one, other) for one, other in zip(state(written), state(captured), strict=True))


@pytest.mark.parametrize("fault", ["raises", "does nothing"])
def test_what_cannot_be_captured_is_told(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Faulty(StandIn):
        def capture(self, function: Callable[[], Result]) -> tuple[Graph, Result]:
            if fault == "raises":
                raise RuntimeError("operation not permitted when stream is capturing")
            return Nothing(), super().capture(function)[1]

    expected = "not permitted when stream is capturing" if fault == "raises" else "a replay changes counters differently"
    with pytest.raises(CannotCaptureError, match=rf"engine=captured: an update cannot be captured .*{expected}.* set engine=eager"):
        fit(small(*TRICKS), tmp_path, 8, game=captured_game(monkeypatch, Faulty()))


def test_a_replay_that_arrives_elsewhere_is_not_used() -> None:
    weight = torch.zeros(4)

    def update(batch: tuple[Tensor, ...], latents: Tensor, due: tuple[str, ...]) -> Result:
        weight.add_(batch[0])
        return weight.sum(), {}

    class Beside:
        def replay(self) -> None:
            weight.add_(1.01)

    batch = torch.ones(4), torch.zeros(4)
    updated = CapturedUpdate(update, lambda: [weight], tuple, capture=lambda function: (Beside(), (weight.sum(), {})))
    for _ in range(WARM_UP):
        updated(batch, torch.zeros(4), ())
    with pytest.raises(CannotCaptureError, match=r"differs from the eager update by 1\.0%"):
        updated(batch, torch.zeros(4), ())


def test_captured_wants_a_gpu() -> None:
    with pytest.raises(ConfigurationError, match="engine=captured: there is no CUDA GPU on this machine; install one, or set engine=eager"):
        refuse_hardware(small("engine=captured", "trainer=cpu"))


def test_auto_is_eager() -> None:
    assert engine.resolve_engine("auto").name == "eager"
    assert engine.resolve_engine("captured").name == "captured"


def test_captured_says_at_the_start_that_it_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    play(tmp_path / "eager", "budget.images=16")
    assert "new" not in caplog.text
    monkeypatch.setattr("twoplayer.game.build.resolve_engine", lambda name: Captured())
    play(tmp_path / "captured", "budget.images=16")
    assert caplog.text.count("engine=captured is new and has never been run on a real GPU") == 1
