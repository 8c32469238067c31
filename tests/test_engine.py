"""Engines play the same game: what is compiled gives what is written, and goes on exactly."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch._inductor.exc import InvalidCxxCompiler

from helpers.games import CPU, TOGETHER, play, small, state_sha256
from twoplayer.config.hardware import refuse_hardware
from twoplayer.errors import ConfigurationError
from twoplayer.game.build import build_game
from twoplayer.game.engine import Compiled
from twoplayer.game.game import Game

SGD = ["optimizer=sgd"]  # Adam amplifies rounding


def iterate(game: Game, iterations: int) -> dict[str, torch.Tensor]:
    """Some iterations on made-up batches; the state after them."""
    for iteration in range(iterations):
        torch.manual_seed(iteration)
        batch = torch.rand(16, 1, 16, 16) * 2 - 1, torch.randint(0, 4, (16,))
        for player in ("discriminator", "generator"):
            cost, _ = game._update[player](batch, game.latents(16, player, iteration), game.tricks.due(player, iteration))
            assert bool(cost.isfinite())
    return {name: tensor.clone() for name, tensor in game.state_dict().items() if isinstance(tensor, torch.Tensor)}


@pytest.mark.process
@pytest.mark.parametrize(
    ("model", "tricks"),
    [
        ("gan", "[ema,r1]"),
        pytest.param("dcgan", "[ema,r1,instance_noise]", marks=pytest.mark.slow),
        pytest.param("dcgan", "[ema,wgan_gp]", marks=pytest.mark.slow),
    ],
)
def test_compiled_is_eager_up_to_rounding(model: str, tricks: str) -> None:
    loss = "loss=wasserstein" if "wgan_gp" in tricks else "loss=non_saturating"
    every = ["trick.r1.every_updates=1"] if "r1" in tricks else []  # one graph of D, not two
    states = [
        iterate(build_game(small(f"trick={tricks}", loss, *every, *SGD, f"engine={engine}", model=model), CPU), 5)
        for engine in ("eager", "compiled")
    ]
    for name, tensor in states[0].items():
        assert torch.allclose(tensor.float(), states[1][name].float(), atol=2e-6), name


IN_THE_STEP = [
    name for name in TOGETHER if name not in ("wgan_gp", "wgan_div")
]  # with batch normalization, and steep slopes to a high power


UNDER_BATCH_NORM = [name for name in IN_THE_STEP if name != "consistency"]  # which does not go with replay then


@pytest.mark.process
@pytest.mark.parametrize(
    "tricks",
    [
        pytest.param(UNDER_BATCH_NORM, id="together"),
        pytest.param([*IN_THE_STEP, "spectral_norm"], id="with spectral_norm", marks=pytest.mark.slow),
    ],
)
def test_all_tricks_are_traced_whole_and_play_the_same_game(tricks: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each gradient function is one graph without a break, whatever acts in it.

    The graph is run operator by operator: seconds, where the code generator would take minutes.
    """
    compiled = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda function, fullgraph, **options: compiled(function, fullgraph=fullgraph, backend="aot_eager")
    )
    settings = [f"trick=[{','.join(tricks)}]", "trick.r1.every_updates=3", "trick.feature_matching.replace=false", *SGD]
    states = [iterate(build_game(small(*settings, f"engine={engine}"), CPU), 4) for engine in ("eager", "compiled")]
    for name, tensor in states[0].items():
        assert torch.allclose(tensor.float(), states[1][name].float(), atol=1e-5, rtol=1e-4), name


def test_the_code_generator_is_the_real_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []

    def compiled(function: Any, **options: object) -> Any:
        asked.append(options)
        return function

    monkeypatch.setattr(torch, "compile", compiled)
    Compiled().executable_gradients(lambda: None)
    assert asked == [{"fullgraph": True, "dynamic": False, "options": {"fallback_random": True}}]  # no other backend than the default


def test_a_machine_without_a_compiler_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_there() -> str:
        raise InvalidCxxCompiler

    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", none_there)
    with pytest.raises(ConfigurationError, match=r"there is no C\+\+ compiler on this machine; install one, or set engine=eager"):
        refuse_hardware(small("engine=compiled"))
    refuse_hardware(small("engine=eager"))


@pytest.mark.slow
def test_a_compiled_run_goes_on_exactly(tmp_path: Path) -> None:
    settings = ["engine=compiled", "trick=[ema,r1,instance_noise]", "trick.r1.every_updates=3"]
    play(tmp_path / "whole", *settings, "budget.images=160")
    play(tmp_path / "parts", *settings, "budget.images=80")
    play(tmp_path / "parts", *settings, "budget.images=160", "resume=auto")
    assert state_sha256(tmp_path / "parts") == state_sha256(tmp_path / "whole")
