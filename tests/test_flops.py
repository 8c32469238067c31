"""The counted operations of both players, which are logged at the start of a run."""

import logging
from pathlib import Path

import pytest
import torch

from helpers.games import CPU, MODELS, play, same, small, weights
from twoplayer.game.build import build_game
from twoplayer.game.flops import flops_per_image

BATCH = torch.rand(16, 1, 16, 16) * 2 - 1, torch.arange(16) % 4


def test_a_multiplication_with_its_addition_is_two_operations() -> None:
    game = build_game(
        small("model.generator.widths=[5,6]", "model.discriminator.widths=[7]", "trick=[spherical_latents]", model="mlp"), CPU
    )
    expected = {"generator": 2 * (16 * 5 + 5 * 6 + 6 * 256), "discriminator": 2 * (256 * 7 + 7 * 1)}
    assert flops_per_image(game, BATCH) == expected


def test_a_convolution_counts_at_every_pixel() -> None:
    """D of two convolutions and two linear layers, as the listing of its modules says."""
    game = build_game(small("model.discriminator.width=4", "model.discriminator.hidden_widths=[7]"), CPU)
    expected = 2 * (4 * 4 * 1 * 4 * 8 * 8 + 4 * 4 * 4 * 8 * 4 * 4 + 8 * 4 * 4 * 7 + 7 * 1)
    assert flops_per_image(game, BATCH)["discriminator"] == expected


def test_the_cost_of_a_pack_is_shared_by_its_images() -> None:
    plain, packed = (
        flops_per_image(build_game(small(*more, model="gan"), CPU), BATCH) for more in ([], ["trick=[packing]", "trick.packing.size=2"])
    )
    assert packed["generator"] == plain["generator"]
    first = 2 * 256 * small(model="gan").model.discriminator.widths[0]
    assert packed["discriminator"] == first + (plain["discriminator"] - first) / 2  # as wide an input per image, half as many of the rest


@pytest.mark.parametrize("model", MODELS)
def test_counting_changes_nothing(model: str) -> None:
    drawing = "" if model == "pixel_cnn" else ",generator_noise,generator_dropout"
    game = build_game(small(f"trick=[ema{drawing}]", model=model), CPU)
    before, random, modes = weights(game), torch.get_rng_state(), [module.training for module in game.modules()]
    counted = flops_per_image(game, (*BATCH, *BATCH))
    assert counted["generator"] > 0
    assert (counted["discriminator"] > 0) == game.model.adversarial
    assert same(before, weights(game))
    assert torch.equal(random, torch.get_rng_state())
    assert modes == [module.training for module in game.modules()]


def test_a_run_says_how_large_its_players_are(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        summary = play(tmp_path / "run", "budget.images=16", "model.generator.widths=[5,6]", "model.discriminator.widths=[7]", model="mlp")
    flops, sizes = summary["flops_per_image"], summary["num_parameters"]
    assert flops == {"generator": 2 * (16 * 5 + 5 * 6 + 6 * 256), "discriminator": 2 * (256 * 7 + 7 * 1)}
    line = f"generator {sizes['generator']:,} parameters, 3.29 kFLOP/image; discriminator {sizes['discriminator']:,} parameters, 3.6 kFLOP/image"
    assert line in caplog.messages
