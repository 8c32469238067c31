"""The game: every model with every loss and trick, turns, and what keeps the numbers finite."""

import ast
import inspect
import re
import textwrap
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning import Callback

from helpers.games import (
    CPU,
    LOSS_SETTINGS,
    LOSSES,
    MODELS,
    SMALL,
    TOGETHER,
    WIDTHS,
    choices,
    chosen,
    composed,
    fit,
    has_autoencoder,
    play,
    same,
    small,
    small_with,
    weights,
)
from twoplayer.callbacks.scalars import Scalars
from twoplayer.errors import ConfigurationError, NumericsError
from twoplayer.game.build import build_game
from twoplayer.game.game import Game
from twoplayer.losses.wasserstein import Wasserstein
from twoplayer.models import dcgan
from twoplayer.models.base import Model
from twoplayer.models.encoding import Encoding
from twoplayer.models.gan import GAN
from twoplayer.models.layers import Decoder
from twoplayer.models.residual import SelfAttention, through
from twoplayer.tricks.inserted import after_hidden_layers, before_output

AUTOENCODER = "model.discriminator.autoencoder=true"
PLAYERS = ("discriminator", "generator")
KINDS = ("non_saturating", "wasserstein", "relativistic_average", "energy", "mmd")
"""A loss of each kind: of labels, of a critic, of pairs, of an autoencoder, of vectors."""


class Watch(Callback):
    """Notes, around every update, whose parameters moved and whose gradients were touched."""

    def __init__(self, game: Game) -> None:
        self.moves: list[tuple[str, bool, bool]] = []
        for player in ("discriminator", "generator"):
            self._watch(game, player)

    def _watch(self, game: Game, player: str) -> None:
        update, opponent = game._update[player], "generator" if player == "discriminator" else "discriminator"

        def watched(*arguments: Any) -> Any:
            own, other = weights(getattr(game.model, player)), weights(getattr(game.model, opponent))
            gradients = [None if p.grad is None else p.grad.clone() for p in getattr(game.model, opponent).parameters()]
            result = update(*arguments)
            after = [p.grad for p in getattr(game.model, opponent).parameters()]
            untouched = all(a is b if a is None or b is None else torch.equal(a, b) for a, b in zip(gradients, after, strict=True))
            self.moves.append(
                (
                    player,
                    not same(own, weights(getattr(game.model, player))),
                    same(other, weights(getattr(game.model, opponent))) and untouched,
                )
            )
            return result

        game._update[player] = watched


def compatible(loss: str, trick: str) -> bool:
    try:
        small(f"loss={loss}", f"trick=[{trick}]", *LOSS_SETTINGS.get(loss, []))
    except ConfigurationError:
        return False
    return True


def with_all_tricks(*overrides: str) -> DictConfig:
    """All tricks but those that are refused with these settings, which the refusal names."""
    tricks = list(TOGETHER)
    while True:
        try:
            return small(*overrides, f"trick=[{','.join(tricks)}]", "trick.pretrain_discriminator.images=32")
        except ConfigurationError as error:
            tricks.remove(re.split(r"trick[.=]", str(error))[1].split(":")[0].split(".")[0])


@pytest.mark.process
@pytest.mark.parametrize(("model", "loss"), [*((model, "") for model in MODELS), *(("dcgan", loss) for loss in LOSSES)])
def test_every_model_and_every_loss_train(model: str, loss: str, tmp_path: Path) -> None:
    config = small(*([f"loss={loss}"] if loss else []), *LOSS_SETTINGS.get(loss, []), model=model)
    game = build_game(config, CPU)
    players = ["discriminator", "generator"] if game.model.adversarial else ["generator"]
    before = {player: weights(getattr(game.model, player)) for player in players}
    watch = Watch(game)
    fit(config, tmp_path, 3, watch, game=game)
    assert watch.moves == [(player, True, True) for player in players] * 3
    for player, old in before.items():
        assert not same(old, weights(getattr(game.model, player)))
    assert bool(game.finite)
    assert all(value.isfinite() for value in game.scalars.values())


@pytest.mark.process
@pytest.mark.parametrize("trick", choices("trick"))
def test_every_trick_trains_alone(trick: str, tmp_path: Path) -> None:
    loss = next(loss for loss in ("non_saturating", "wasserstein") if compatible(loss, trick))
    alone = small_with(trick, "dcgan") if loss == "non_saturating" else small(f"loss={loss}", f"trick=[{trick}]")
    game = fit(alone, tmp_path, 10)
    assert game.clock.iteration == 10
    assert bool(game.finite)


def tricks_with_models() -> list[Any]:
    """All pairs of a trick and a model.

    Four of five are slow, and each trick and each model is in one of the others.
    """
    return [
        pytest.param(trick, model, marks=() if (row + column) % 5 == 0 else pytest.mark.slow)
        for row, trick in enumerate(choices("trick"))
        for column, model in enumerate(MODELS)
    ]


@pytest.mark.process
@pytest.mark.parametrize(("trick", "model"), tricks_with_models())
def test_every_trick_trains_every_model_or_is_refused_in_words(trick: str, model: str, tmp_path: Path) -> None:
    refusal = ""
    try:
        assert bool(fit(small_with(trick, model), tmp_path, 1).finite)
    except ConfigurationError as error:
        refusal = str(error)
    assert not refusal or re.match(rf"trick={trick}: .*model={model}\b.*; \w+", refusal), (
        f"a refusal names trick, model and remedy: {refusal}"
    )


@pytest.mark.parametrize(("trick", "setting"), [("spectral_norm", "normalization"), ("wgan_gp", "normalization"), ("packing", "packs")])
def test_a_trick_that_sets_what_a_model_lacks_is_refused(trick: str, setting: str) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"trick={trick}: model=minimal has no discriminator\.{setting}.* add ~model\."
    ) as refusal:
        small(f"trick=[{trick}]", model="minimal")
    assert re.search(r"add (\S+)$", str(refusal.value))


@pytest.mark.parametrize("trick", ["spectral_norm", "wgan_gp"])
def test_the_remedy_of_that_refusal_works(trick: str, tmp_path: Path) -> None:
    game = fit(small(f"trick=[{trick}]", "~model.discriminator.normalization", model="minimal"), tmp_path, 1)
    assert bool(game.finite)


@pytest.mark.parametrize("loss", LOSS_SETTINGS)
def test_a_loss_that_wants_an_autoencoder_is_refused_with_a_model_that_has_none(loss: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"loss={loss}: .* which model=minimal does not have; choose a model .*model=dcgan"):
        small(f"loss={loss}", model="minimal")


@pytest.mark.parametrize("autoencoder", [False, True])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("channels", "num_outputs"), [(1, 1), (3, 5)])
def test_a_model_owes_what_its_docstring_says(model: str, channels: int, num_outputs: int, autoencoder: bool) -> None:
    if autoencoder and (not has_autoencoder(model) or num_outputs > 1):
        pytest.skip("no such setting, or no vectors")
    settings = [AUTOENCODER] if autoencoder else ["loss=mmd", f"model.discriminator.num_outputs={num_outputs}"] if num_outputs > 1 else []
    try:
        config = small(f"data.channels={channels}", *settings, model=model)
    except ConfigurationError as error:
        if not settings:  # a model may refuse an autoencoder or vectors, and nothing else
            raise
        pytest.skip(str(error))
    torch.manual_seed(0)
    family = instantiate(config.model).eval()
    size, latents, labels = config.data.image_size, torch.randn(6, family.latent_size), torch.arange(6) % 4
    assert isinstance(family, Model)
    for player in PLAYERS if family.adversarial else ["generator"]:
        assert isinstance(getattr(family, player).output, torch.nn.Module), f"{player}.output, the last layer"
        assert [*getattr(family, player).parameters()], f"{player} has parameters"
    assert family.latent_size == family.generator.latent_size == config.model.generator.get("latent_size", family.latent_size)
    told = torch.randn(6, channels, size, size) if family.translates else labels
    images = family.generator(latents, told)
    assert images.shape == (6, channels, size, size)
    assert -1 <= images.min().item() <= images.max().item() <= 1
    if family.generator.layout is not None:
        rebuilt = eval(str(family.generator.layout), {**dict(family.generator.named_children()), "z": latents, "y": told, "torch": torch})
        assert torch.equal(rebuilt, images), "layout is the generator's forward pass"
    if not family.adversarial:
        return
    shown = family.fake((images, labels, images, labels), latents)
    num = len(shown.images)  # families of two domains show both of them
    logits, features = family.judge(shown)
    assert logits.shape == ((num,) if num_outputs == 1 else (num, num_outputs))
    assert family.num_outputs == num_outputs
    assert features.shape[0] == num
    assert isinstance(family.discriminator.output, Decoder if autoencoder else torch.nn.Linear)
    if family.judges_images and not isinstance(family, Encoding):
        judged, _ = family.judge(family.example(images, labels))
        assert torch.equal(judged, logits), "fakes are judged as images are"


def test_modules_are_put_behind_hidden_layers_and_not_behind_the_output() -> None:
    """Whatever the order in which a model registers its layers."""
    generator = build_game(small("trick=[generator_noise]", model="minimal"), CPU).model.generator
    assert isinstance(generator.output, torch.nn.Linear)
    assert isinstance(generator.hidden, torch.nn.Sequential)


class Bare(torch.nn.Module):
    """A player whose last layer has no name, or is of a kind that cannot be widened."""

    def __init__(self, output: torch.nn.Module | None) -> None:
        super().__init__()
        if output is not None:
            self.output = output


def test_a_player_without_what_a_trick_needs_is_refused_in_words() -> None:
    with pytest.raises(
        ConfigurationError, match=r"trick=generator_noise: model=test_game's Bare has no module `output`.*; leave the trick out"
    ):
        after_hidden_layers(Bare(None), torch.nn.Identity, "generator_noise")
    with pytest.raises(ConfigurationError, match=r"trick=minibatch_stddev: .* but the output of model=test_game's Bare is Conv2d; leave"):
        before_output(Bare(torch.nn.Conv2d(1, 1, 1)), lambda features: torch.nn.Identity(), 1, "minibatch_stddev")


@pytest.mark.process
@pytest.mark.parametrize("loss", [pytest.param(loss, marks=() if loss in KINDS else pytest.mark.slow) for loss in LOSSES])
def test_all_tricks_train_together(loss: str, tmp_path: Path) -> None:
    without = ["~trick.minibatch_discrimination"] if loss == "mean_covariance" else []  # large features, which the loss squares
    game = fit(with_all_tricks(f"loss={loss}", *LOSS_SETTINGS.get(loss, []), *without), tmp_path, 12)
    assert bool(game.finite)
    assert game.clock.updates == {"discriminator": 12, "generator": 4}  # of twelve, five steps of D leave two turns, of two steps each


def test_every_term_of_a_cost_is_logged_under_its_name(tmp_path: Path) -> None:
    """The adversarial cost is logged as it is, also where a trick replaces it."""
    tricks = ["r1", "consistency", "pulling_away", "feature_matching"]
    plain, game = fit(small(), tmp_path / "plain", 1), fit(small(f"trick=[{','.join(tricks)}]"), tmp_path / "all", 1)
    terms = {f"{'penalty' if place < 2 else 'generator_penalty'}/{name}" for place, name in enumerate(tricks)}
    assert {name for name in game.scalars if "penalty/" in name} == terms
    assert all(float(game.scalars[name]) > 0 for name in terms)
    assert float(game.scalars["loss/discriminator"]) == pytest.approx(float(plain.scalars["loss/discriminator"]), abs=1e-6)
    assert float(game.scalars["loss/generator"]) > 0.1


@pytest.mark.parametrize(
    "options",
    [
        "model.generator.activation=leaky_relu",
        *(
            f"model.{player}.normalization={kind}"
            for player in ("generator", "discriminator")
            for kind in ("batch", "instance", "layer", "none")
        ),
        "model.generator.output_activation=sigmoid",
        *(f"model.generator.upsampling={kind}" for kind in ("transposed", "pixel_shuffle", "nearest")),
        *(f"model.discriminator.downsampling={kind}" for kind in ("strided", "average", "max")),
        *(f"data.image_size={size}" for size in (28, 32, 64)),
        "data.channels=3",
        *(f"optimizer/player@optimizer.generator={name}" for name in choices("optimizer/player")),
    ],
)
def test_options_train(options: str, tmp_path: Path) -> None:
    game = fit(small(options), tmp_path, 2)
    assert bool(game.finite)


@pytest.mark.parametrize(
    "options", [f"model.{player}.normalization={kind}" for player in ("generator", "discriminator") for kind in ("batch", "layer", "none")]
)
def test_options_of_the_fully_connected_pair_train(options: str, tmp_path: Path) -> None:
    assert bool(fit(small(options, model="gan"), tmp_path, 2).finite)


@pytest.mark.parametrize("model", choices("model"))
def test_bf16_trains_with_weights_and_penalties_in_fp32(model: str, tmp_path: Path) -> None:
    penalty = [] if len(chosen(model)) > 1 else ["trick=[r1]", "trick.r1.every_updates=1"]
    game = fit(small("precision=bf16", *penalty, model=model), tmp_path, 2)
    assert bool(game.finite)
    assert all(parameter.dtype == torch.float32 for parameter in game.parameters())


@pytest.mark.parametrize(
    ("tricks", "turns"),
    [
        ("[]", (6, 6)),
        ("[discriminator_steps]", (6, 2)),
        ("[generator_steps]", (6, 12)),
        ("[discriminator_steps,generator_steps]", (6, 4)),
        ("[pretrain_discriminator]", (6, 4)),
    ],
)
def test_turns_are_counted(tricks: str, turns: tuple[int, int], tmp_path: Path) -> None:
    settings = {
        "discriminator_steps": "trick.discriminator_steps.steps=3",
        "pretrain_discriminator": "trick.pretrain_discriminator.images=32",
    }
    config = small(f"trick={tricks}", *(setting for name, setting in settings.items() if name in tricks))
    game = build_game(config, CPU)
    watch = Watch(game)
    fit(config, tmp_path, 6, watch, game=game)
    players = [player for player, _, _ in watch.moves]
    assert (players.count("discriminator"), players.count("generator")) == turns
    assert all(moved and opponent_untouched for _, moved, opponent_untouched in watch.moves)
    assert game.clock.images_seen == 6 * config.data.batch_size
    assert game.trainer.global_step == 6


def test_the_same_seed_is_the_same_run_and_another_is_not(tmp_path: Path) -> None:
    tricks = "trick=[instance_noise,ema,r1]"
    one, again, other = (fit(small(tricks, f"seed={seed}", model="gan"), tmp_path, 4) for seed in (0, 0, 1))
    assert same(weights(one), weights(again))
    assert not same(weights(one.model), weights(other.model))


@pytest.mark.parametrize("tricks", ["[instance_noise]", "[instance_noise,ema]"])
def test_sampling_does_not_change_training(tricks: str, tmp_path: Path) -> None:
    class Sample(Callback):
        def on_train_batch_end(self, trainer: Any, game: Any, *others: Any) -> None:
            game.sample(game.latents(8, "grid"), torch.zeros(8, dtype=torch.long))
            torch.randn(3)

    config = small(f"trick={tricks}")  # with batch normalization, which a generator left in eval mode would compute otherwise
    assert same(weights(fit(config, tmp_path, 4)), weights(fit(config, tmp_path, 4, Sample())))


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_a_gradient_that_is_not_finite_never_reaches_the_weights(player: str, tmp_path: Path) -> None:
    class Poison(Callback):
        def on_train_batch_start(self, trainer: Any, game: Any, *others: Any) -> None:
            if game.clock.iteration == 2:
                first = next(getattr(game.model, player).parameters())
                self.handle = first.register_hook(lambda gradient: gradient * float("nan"))
            if game.clock.iteration == 3:
                self.handle.remove()

    config = small()
    game = build_game(config, CPU)
    with pytest.raises(NumericsError, match="not finite"):
        fit(config, tmp_path, 20, Poison(), Scalars(every_iterations=5), game=game)
    assert game.clock.iteration == 5
    assert all(parameter.isfinite().all() for parameter in game.parameters())


def test_accuracy_is_taken_at_the_boundary_of_the_loss() -> None:
    game = build_game(small("loss=least_squares"), CPU)
    judged = game.loss.judgement(torch.tensor([0.6, 0.4]), torch.tensor([0.1, 0.45]))
    assert {name: round(float(value), 3) for name, value in judged.items() if name.startswith("accuracy")} == {
        "accuracy/real": 0.5,
        "accuracy/fake": 1.0,
        "accuracy/pairs": 0.75,
        "accuracy": 0.75,
    }
    without = build_game(small("loss=wasserstein", "trick=[wgan_gp]"), CPU).loss.judgement(
        torch.tensor([6.0, 4.0]), torch.tensor([5.0, 5.0])
    )
    assert float(without["accuracy"]) == 0.5
    assert "accuracy/real" not in without


def test_a_critic_whose_slope_nothing_bounds_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def warned(name: str, tricks: str = "[]") -> bool:
        caplog.clear()
        play(tmp_path / name, "loss=wasserstein", f"trick={tricks}", "budget.images=16")
        return "needs a D with a bounded slope, and nothing bounds it" in caplog.text

    assert warned("nothing")
    assert not warned("trick", "[spectral_norm]")
    for part in (GAN, Wasserstein):
        with monkeypatch.context() as patch:
            patch.setattr(part, "bounds_slope", True)
            assert not warned(part.__name__)


def test_numbers_are_the_tensors_that_their_owners_read(tmp_path: Path) -> None:
    config = small("trick=[r1]")
    game = build_game(config, CPU)
    numbers = game.numbers
    assert {"trick.r1.weight", "optimizer.discriminator.lr", "optimizer.generator.beta2"} <= set(numbers)
    before = weights(game.model.generator)
    numbers["optimizer.generator.lr"].fill_(0.0)
    fit(config, tmp_path, 2, game=game)
    assert same(before, weights(game.model.generator))


def test_dcgan_keeps_the_guidelines_of_its_paper() -> None:
    config = composed("model=dcgan_paper", *SMALL, *WIDTHS["dcgan_paper"], "data.image_size=28")
    game = build_game(config, CPU)
    kinds = [type(module).__name__ for module in game.model.modules()]
    assert not any("Pool" in kind for kind in kinds)
    first = next(module for module in game.model.discriminator.modules() if isinstance(module, torch.nn.Conv2d))
    layers = list(cast(torch.nn.Sequential, game.model.discriminator.convolutions))
    assert isinstance(layers[layers.index(first) + 1], torch.nn.Identity)
    assert sum(isinstance(module, torch.nn.Linear) for module in game.model.modules()) == 2
    images = game.sample(game.latents(3, "test"), torch.zeros(3))
    assert images.shape == (3, 1, 28, 28)
    assert images.abs().max() <= 1


@pytest.mark.parametrize("autoencoder", [False, True])
def test_hidden_layers_of_dcgan_stand_before_and_after_the_convolutions(autoencoder: bool) -> None:
    hidden = [
        "model.generator.hidden_widths=[5,6]",
        "model.discriminator.hidden_widths=[7,3]",
        f"model.discriminator.autoencoder={autoencoder}",
    ]
    game = build_game(composed("model=dcgan", *SMALL, *WIDTHS["dcgan"], *hidden, *(["loss=energy"] if autoencoder else [])), CPU)
    generator, discriminator = cast(dcgan.Generator, game.model.generator), cast(dcgan.Discriminator, game.model.discriminator)
    widths = {name: [(layer.in_features, layer.out_features) for layer in part.modules() if isinstance(layer, torch.nn.Linear)]
              for name, part in (("generator", generator.hidden), ("discriminator", discriminator.hidden))}  # fmt: skip
    assert widths["generator"] == [(generator.latent_size, 5), (5, 6)]
    assert generator.projection.in_features == 6
    assert [outputs for _, outputs in widths["discriminator"]] == [7, 3]
    images = torch.rand(4, 1, 16, 16)
    side = discriminator(images, torch.zeros(4))
    if autoencoder:
        assert [layer.out_features for layer in cast(Decoder, discriminator.output).images.modules() if isinstance(layer, torch.nn.Linear)][
            :2
        ] == [3, 7]
    else:
        assert side[1].shape == (4, 3)
        assert torch.allclose(side[0], discriminator.output(side[1])[:, 0])


def test_the_step_asks_no_setting() -> None:
    """What is done follows from who acts where: an `if` on a setting in the step misses a place."""
    methods = (
        "training_step",
        "iterate",
        "_turn",
        *(f"{player}_gradients" for player in PLAYERS),
        *(f"update_{player}" for player in PLAYERS),
        "_step",
        "judge",
        "fake",
    )
    for name in methods:
        tree = ast.parse(textwrap.dedent(inspect.getsource(getattr(Game, name))))
        conditions = [ast.unparse(node.test) for node in ast.walk(tree) if isinstance(node, ast.If | ast.IfExp | ast.While)]
        assert set(conditions) <= {
            "ranks.world_size() > 1",
            "self.loss.compares or self.tricks.needs_real or self.model.needs_real",
        }, name


@pytest.mark.parametrize(("player", "attention"), [("generator", 13), ("discriminator", 16)])
def test_attention_at_a_size_where_no_block_ends_is_refused(player: str, attention: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"model\.{player}\.attention={attention}: for images of 16 its blocks end at .*8"):
        small(f"model.{player}.attention={attention}", "model.generator.width=4", model="resnet")


def test_attention_begins_as_the_identity_and_its_layout_is_its_forward_pass() -> None:
    attention, maps = SelfAttention(16), torch.randn(2, 16, 8, 8)
    assert torch.equal(attention(maps), maps)
    with torch.no_grad():
        attention.gamma.fill_(0.7)
    assert not torch.equal(attention(maps), maps)
    assert torch.equal(eval(SelfAttention.layout("a"), {"a": attention, "h": maps, "torch": torch}), attention(maps))


def test_r3gan_begins_with_blocks_that_are_the_identity_and_refuses_what_divides_by_their_norm() -> None:
    game = build_game(small(model="r3gan"), CPU)
    blocks = [block for block in cast(torch.nn.ModuleList, game.model.generator.blocks) if isinstance(block, torch.nn.ModuleDict)]
    for block in blocks:
        maps = torch.randn(2, block["residual"][0].in_channels, 4, 4)  # type: ignore[index]
        assert torch.equal(through(torch.nn.ModuleList([block]), maps), maps)
    with pytest.raises(ConfigurationError, match=r"trick=spectral_norm: model=r3gan starts with weights of 0.*; leave it out"):
        small("trick=[spectral_norm]", "~model.discriminator.normalization", model="r3gan")
    with pytest.raises(ConfigurationError, match=r"model\.generator\.group_size=3: .* channels do not divide into such groups; set model"):
        small("model.generator.group_size=3", model="r3gan")


def test_a_fully_connected_generator_makes_data_of_any_shape_and_range() -> None:
    config = small("model.generator.shape=[2]", "model.generator.output_activation=none", model="mlp")
    model = instantiate(config.model)
    with torch.no_grad():
        model.generator.output.bias.fill_(5.0)
    points = model.generator(torch.randn(7, 16), torch.zeros(7))
    assert points.shape == (7, 2)
    assert points.min() > 1
    logits, _ = model.discriminator(points, torch.zeros(7))
    assert logits.shape == (7,)
