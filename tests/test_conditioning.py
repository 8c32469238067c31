"""Conditional models: what G and D do with labels; their samples, exports and refusals."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import twoplayer
from helpers.games import CPU, fit, play, small
from twoplayer.commands.export import write_export
from twoplayer.commands.sample import write_samples
from twoplayer.errors import ConfigurationError
from twoplayer.game.build import build_game
from twoplayer.models.conditioning import ConditionalNormalization, DiscriminatorCondition, Embedding, one_hot
from twoplayer.tricks.inserted import after_hidden_layers

GENERATOR, DISCRIMINATOR = "model.generator.conditioning", "model.discriminator.conditioning"
FAMILIES = ("dcgan", "gan", "resnet", "r3gan")
CONCATENATE = [f"{GENERATOR}=concatenate"]
BATCH_NORM = [f"{GENERATOR}=batch_norm", "model.generator.normalization=batch"]
WAYS = [CONCATENATE, BATCH_NORM]
CASES = [(model, way) for model in FAMILIES for way in (WAYS if model in ("dcgan", "gan") else [CONCATENATE])]
NAMES = [f"{model}-{way[0].partition('=')[2]}" for model, way in CASES]


def test_one_hot() -> None:
    assert one_hot(torch.tensor([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]


def test_conditional_normalization_has_a_gain_and_a_shift_per_class() -> None:
    layer = ConditionalNormalization(nn.BatchNorm1d(2, affine=False), 3, 2)
    with torch.no_grad():
        layer.gain.weight.copy_(torch.tensor([[1.0, 2.0, 3.0], [1.0, 1.0, 1.0]]))
        layer.shift.weight[1, 2] = 5.0
    values = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    found = layer(values, one_hot(torch.tensor([0, 2]), 3))
    assert torch.allclose(found, torch.tensor([[-1.0, -1.0], [3.0, 6.0]]), atol=1e-4)


def test_a_projection_adds_the_product_of_features_and_class() -> None:
    condition = DiscriminatorCondition("projection", num_classes=3, image_size=4, num_features=2)
    with torch.no_grad():
        condition.embedding.weight.copy_(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    features, labels = torch.tensor([[1.0, 10.0], [1.0, 0.0]]), torch.tensor([1, 2])
    assert condition.logits(torch.tensor([0.5, 0.0]), features, labels).tolist() == [52.5, 3.0]
    images = torch.ones(2, 1, 4, 4)
    assert condition.images(images, labels) is images


def test_concatenation_adds_a_channel_of_the_class() -> None:
    condition = DiscriminatorCondition("concatenate", num_classes=3, image_size=4, num_features=2)
    found = condition.images(torch.ones(2, 1, 4, 4), torch.tensor([1, 2]))
    assert found.shape == (2, 2, 4, 4)
    assert torch.equal(found[0, 1].flatten(), condition.embedding.weight[:, 1])


@pytest.mark.parametrize(("model", "generator"), CASES, ids=NAMES)
@pytest.mark.parametrize("discriminator", ["concatenate", "projection"])
def test_both_players_use_the_class_and_learn_from_it(model: str, generator: list[str], discriminator: str, tmp_path: Path) -> None:
    game = build_game(config := small(*generator, f"{DISCRIMINATOR}={discriminator}", model=model), CPU)
    embeddings = [module for module in game.model.modules() if isinstance(module, Embedding)]
    before = [module.weight.detach().clone() for module in embeddings]
    fit(config, tmp_path, 3, game=game)
    assert all(not torch.equal(old, module.weight) for old, module in zip(before, embeddings, strict=True))
    assert game.model.conditional
    latents = game.latents(1, "test").expand(2, -1)
    one, other = game.sample(latents, torch.tensor([0, 1]))
    assert not torch.equal(one, other)
    game.model.eval()
    images = torch.rand(1, 1, config.data.image_size, config.data.image_size).expand(2, -1, -1, -1)
    logits, _ = game.model.discriminator(images, torch.tensor([0, 1]))
    assert logits[0] != logits[1]


@pytest.mark.parametrize("model", FAMILIES)
def test_an_unconditional_model_ignores_labels(model: str) -> None:
    game = build_game(small(model=model), CPU)
    assert not game.model.conditional
    one, other = game.sample(game.latents(1, "test").expand(2, -1), torch.tensor([0, 1]))
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([f"{DISCRIMINATOR}=projection"], "G has to know the class; set model.generator.conditioning=concatenate"),
        ([*CONCATENATE, f"{DISCRIMINATOR}=projection", "model.discriminator.autoencoder=true", "loss=energy"], "no logit to project on"),
        ([*CONCATENATE, f"{DISCRIMINATOR}=projection", "loss=mmd"], "num_outputs=16; set model.discriminator.conditioning=concatenate"),
        ([f"{GENERATOR}=batch_norm", "model.generator.normalization=layer"], "needs model.generator.normalization=batch"),
        ([*CONCATENATE, f"{DISCRIMINATOR}=concatenate", "trick=[packing]"], "a pack of images has no class of its own"),
        ([f"{GENERATOR}=batch"], "must be 'none', 'concatenate' or 'batch_norm'"),
    ],
)
def test_what_cannot_be_told_is_refused(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        small(*settings)


def test_noise_behind_hidden_layers_leaves_the_embedding_alone() -> None:
    generator: Any = build_game(small(*CONCATENATE), CPU).model.generator
    after_hidden_layers(generator, nn.Identity, "generator_noise")
    assert isinstance(generator.condition.embedding, Embedding)
    assert isinstance(generator.projection, nn.Sequential)


@pytest.mark.parametrize("generator", WAYS, ids=["concatenate", "batch_norm"])
def test_samples_are_of_the_classes_that_were_asked_for(generator: list[str], tmp_path: Path) -> None:
    play(tmp_path, *generator, "budget.images=64", model="dcgan")
    saved = twoplayer.load(tmp_path)
    every, sevens = saved(8, seed=3), saved(8, seed=3, labels=2)
    assert torch.equal(every[2], sevens[2])
    assert not torch.equal(every[3], sevens[3])
    assert torch.equal(saved(8, seed=3, labels=[3, 2]), saved(8, seed=3, labels=torch.tensor([3, 2] * 4)))
    assert torch.equal(saved(8, seed=3, labels=[3, 2])[1], saved(8, seed=3, labels=2)[1])
    for labels in ([4], [-1], []):
        with pytest.raises(ConfigurationError, match="the classes are 0 to 3; name one or more of them"):
            saved(8, labels=labels)
    facts: dict[str, Any] = {
        "run": str(tmp_path),
        "num": 8,
        "seed": 3,
        "columns": 4,
        "output": None,
        "single_files": False,
        "safetensors": False,
        "walk": False,
        "plane": False,
        "latents": None,
        "truncation": None,
        "source": None,
        "source_half": None,
    }
    write_samples(**facts, interpolate=False, labels=[3, 2])
    write_samples(**facts, interpolate=True, labels=1)
    assert {path.name for path in (tmp_path / "generated").iterdir()} == {"seed3_8_3_2.png", "seed3_8_1_interpolated.png"}


def test_scored_samples_have_the_shares_of_the_training_images(tmp_path: Path) -> None:
    play(tmp_path, *WAYS[0], "budget.images=32", model="dcgan")
    game = twoplayer.load(tmp_path).game
    assert game.scored_labels(1000).bincount().tolist() == pytest.approx([250] * 4, abs=3), "equal ones, as long as no data are known"
    data: Any = SimpleNamespace(splits=SimpleNamespace(train=SimpleNamespace(labels=torch.tensor([0] * 70 + [1] * 5 + [3] * 25))))
    game.take_told(data)
    for num, first in ((500, 0), (500, 9500), (10_000, 0)):
        drawn = game.scored_labels(num, first)
        assert drawn.bincount(minlength=4).tolist() == pytest.approx([0.7 * num, 0.05 * num, 0, 0.25 * num], abs=4)
        assert torch.equal(drawn[100:], game.scored_labels(num - 100, first + 100)), "one sequence"
    told, classes = game.told(64, 500, scored=True), game.classes_of(torch.zeros(64, game.model.latent_size), 500)
    assert torch.equal(told, classes)
    assert game.told(6).tolist() == [0, 1, 2, 3, 0, 1], "grids have the classes in turn"


def test_labels_for_a_model_that_knows_none_are_refused(tmp_path: Path) -> None:
    play(tmp_path, "budget.images=16")
    with pytest.raises(ConfigurationError, match=re.escape("labels=[7]: the model of this run knows no classes; leave labels out")):
        twoplayer.load(tmp_path)(4, labels=7)


@pytest.mark.parametrize(
    ("model", "generator"),
    [pytest.param(*case, marks=() if name.startswith("dcgan") else pytest.mark.slow) for case, name in zip(CASES, NAMES, strict=True)],
    ids=NAMES,
)
def test_an_exported_conditional_generator_takes_labels(model: str, generator: list[str], tmp_path: Path) -> None:
    play(tmp_path, *generator, "trick=[ema]", "budget.images=64", model=model)
    write_export(run=str(tmp_path), output=None, onnx=True)
    saved, folder = twoplayer.load(tmp_path), tmp_path / "export"
    latents, labels = saved.game.latents(8, "sample", 0), torch.tensor([0, 1, 2, 3, 3, 2, 1, 0])
    session = onnxruntime.InferenceSession(folder / "generator.onnx")
    (images,) = session.run(None, {"latents": latents.numpy(), "labels": labels.numpy()})
    expected = saved(8, labels=labels)
    assert np.abs(images - expected.numpy()).max() < 1e-5
    text = (folder / "README.md").read_text()
    assert "labels from 0 to 3" in text
    layout = text.rstrip().split("```")[-2].strip()
    parts = dict(saved.game.tricks.sampler(saved.game.model.generator).eval().named_children())
    with torch.no_grad():
        rebuilt = eval(layout, {"z": latents, "y": one_hot(labels, 4), "torch": torch, **parts})
    assert torch.allclose(rebuilt, expected, atol=1e-6)
