"""AC-GAN, InfoGAN, semi-supervised GAN: their mathematics, who learns what, refusals."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy, mse_loss

import twoplayer
from helpers.games import CPU, fit, play, same, small, weights
from twoplayer.errors import ConfigurationError
from twoplayer.game.build import build_game
from twoplayer.models.base import Example, Side
from twoplayer.tricks.auxiliary_classifier import AuxiliaryClassifier
from twoplayer.tricks.information import Information

CLASSIFIER = ["trick=[auxiliary_classifier]"]
INFORMATION = ["trick=[information]", "trick.information.categories=4", "trick.information.continuous=2"]
LABELS = ["data.num_labels=8"]


def sides(game: Any, num: int = 6) -> tuple[Side, Side]:
    """A real and a fake side, as D sees them."""
    size = int(game.model.fake((torch.zeros(2), torch.zeros(2, dtype=torch.int64)), game.latents(2, "size")).images.shape[-1])
    batch = torch.rand(num, 1, size, size) * 2 - 1, torch.arange(num) % 4
    latents = game.latents(num, "test")
    return game.judge(game.model.real(batch, latents)), game.judge(game.fake(batch, latents))


@pytest.mark.parametrize("chosen", ["both", "real"])
def test_the_auxiliary_classifier_is_penalized_by_the_cross_entropy_of_the_class(chosen: str) -> None:
    game = build_game(small(*CLASSIFIER, f"trick.auxiliary_classifier.sides={chosen}", "trick.auxiliary_classifier.weight=3"), CPU)
    trick = game.tricks.chosen["auxiliary_classifier"]
    assert isinstance(trick, AuxiliaryClassifier)
    real, fake = sides(game)
    classify: Any = game.model.discriminator.classifier
    on_real, on_fake = (cross_entropy(classify(side.features), side.condition) for side in (real, fake))
    expected = 3 * (on_real if chosen == "real" else (on_real + on_fake) / 2)
    assert torch.allclose(trick.penalty(real, fake, game.judge), expected)
    assert torch.allclose(trick.generator_penalty(None, fake, game.judge), on_fake)


def test_codes_are_one_hot_and_uniform() -> None:
    trick = Information(categories=3, continuous=1, weight=1.0, continuous_weight=1.0, width=4, noise_scale=0.5)
    latents = trick.latents(torch.randn(20000, 6, generator=torch.Generator().manual_seed(0)))
    assert latents[:, :3].eq(3**0.5).sum(1).eq(1).all()
    assert latents[:, :3].ne(0).sum(1).eq(1).all()
    assert torch.allclose(latents[:, :3].square().mean(0), torch.ones(3), atol=0.06)
    assert torch.allclose(latents[:, 3].quantile(torch.tensor([0.25, 0.5, 0.75])), torch.tensor([-0.5, 0.0, 0.5]), atol=0.03)
    assert torch.allclose(latents[:, 4:].std(0), torch.full((2,), 0.5), atol=0.02)
    assert torch.equal(trick.code(latents), latents[:, :3].argmax(1))


def test_the_error_of_the_guessed_codes_is_what_both_players_are_penalized_by() -> None:
    settings = ["trick.information.weight=2", "trick.information.continuous_weight=3"]
    game: Any = build_game(small(*INFORMATION, *settings), CPU)
    trick = game.tricks.chosen["information"]
    assert isinstance(trick, Information)
    real, fake = sides(game)
    assert fake.latents is not None
    category, continuous = game.model.generator.recognition(fake.features)
    expected = 2 * cross_entropy(category, fake.latents[:, :4].argmax(1)) + 3 * mse_loss(continuous, fake.latents[:, 4:6])
    assert torch.allclose(trick.penalty(real, fake, game.judge), expected)
    assert torch.allclose(trick.generator_penalty(None, fake, game.judge), expected)


def test_q_belongs_to_g_and_the_classifier_to_d(tmp_path: Path) -> None:
    for settings, owner, name in ((INFORMATION, "generator", "recognition"), (CLASSIFIER, "discriminator", "classifier")):
        game = build_game(config := small(*settings), CPU)
        module = getattr(getattr(game.model, owner), name)
        own = {id(parameter) for parameter in module.parameters()}
        for player, parameters in game.player_parameters.items():
            assert (own <= {id(parameter) for parameter in parameters}) == (player == owner)
        assert not [name for name, _ in game.tricks.named_parameters()]
        before = weights(module)
        fit(config, tmp_path / name, 2, game=game)
        assert not same(before, weights(module))
        assert {"penalty", "generator_penalty"} <= {name.split("/")[0] for name in game.scalars}


def test_a_run_of_infogan_shows_a_code_in_each_row(tmp_path: Path) -> None:
    play(tmp_path, *INFORMATION, "budget.images=32", model="dcgan")
    assert (tmp_path / "samples" / "codes.png").is_file()
    game = twoplayer.load(tmp_path).game
    images, columns = game.pictures((torch.zeros(1, 1, 16, 16), torch.zeros(1, dtype=torch.int64)))["codes"]
    assert (len(images), columns) == (3 * 3 * 4, 4)
    rows = images.view(9, 4, -1)
    assert all(not torch.equal(row[0], row[3]) for row in rows)
    assert torch.equal(twoplayer.load(tmp_path)(4), game.sample(game.latents(4, "sample", 0), game.labels(4)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            [*CLASSIFIER, "model.generator.conditioning=none"],
            "model=dcgan's G is told no class to make images of; set model.generator.conditioning",
        ),
        (["trick=[auxiliary_classifier,packing]"], "trick=[auxiliary_classifier,packing]: D sees packs of images, which have no class"),
        ([*CLASSIFIER, "data.num_classes=1"], "must be greater than or equal to 2"),
        (
            ["model.generator.conditioning=concatenate", "data.num_classes=1"],
            "model.generator.conditioning: it needs labels, and data=synthetic has none",
        ),
        (
            [*INFORMATION, "model.generator.latent_size=6"],
            "leave no noise among model.generator.latent_size=6 latents; set model.generator.latent_size=22",
        ),
        (
            [*INFORMATION[1:], "trick=[information,replay]"],
            "trick=[information,replay]: the codes of fakes that are shown again are not known",
        ),
        ([*INFORMATION[1:], "trick=[uniform_latents,information]"], "its uniform codes are made of Gaussian latents"),
    ],
)
def test_what_cannot_work_is_refused(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        small(*settings)


def test_d_alone_may_learn_to_classify() -> None:
    settings = [
        "model.generator.conditioning=none",
        "trick.auxiliary_classifier.generator_weight=0",
        "trick.auxiliary_classifier.sides=real",
    ]
    assert not build_game(small(*CLASSIFIER, *settings), CPU).model.conditional


def test_the_semi_supervised_discriminator_shares_one_number_between_its_classes() -> None:
    game: Any = build_game(small(*LABELS, model="sgan"), CPU)
    images, labels = torch.rand(3, 1, 16, 16), torch.tensor([0, 1, 2])
    logits, features = game.model.discriminator(images, labels)
    classes = game.model.discriminator.output(features)
    assert torch.allclose(logits.sigmoid(), classes.exp().sum(1) / (classes.exp().sum(1) + 1), atol=1e-6)
    batch = torch.zeros(2, 1, 16, 16), torch.zeros(2), images, labels
    cost = game.model.discriminator_costs(batch, game.judge)["labelled"]
    assert torch.allclose(cost, cross_entropy(game.model.discriminator.output(game.judge(Example(images, labels, None)).features), labels))


def test_a_semi_supervised_run_says_how_often_it_is_right(tmp_path: Path) -> None:
    summary = play(tmp_path, *LABELS, "budget.images=960", "callbacks.measures.every_images=320", model="sgan")
    assert set(summary["measures"]) == {"class_accuracy_validation", "class_accuracy_test"}
    assert summary["measures"]["class_accuracy_test"] > 0.5  # four corners, of which chance gives a quarter
    assert json.loads((tmp_path / "summary.json").read_text())["measures"] == summary["measures"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["data.num_labels=null"], "model=sgan learns from images with known labels; set data.num_labels=100"),
        (["trick=[packing]"], "trick=packing: it needs packs, but model=sgan's D classifies single images; leave it out"),
        (["loss=mmd"], "loss=mmd: model=sgan's D outputs one logit per class"),
        (
            ["model.discriminator.autoencoder=true", "loss=energy"],
            "model.discriminator.autoencoder=true: model=sgan needs a discriminator with a logit",
        ),
        (["model.discriminator.conditioning=projection", "model.generator.conditioning=concatenate"], "D guesses the class"),
    ],
)
def test_what_a_semi_supervised_model_cannot_do_is_refused(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        small(*LABELS, *settings, model="sgan")
