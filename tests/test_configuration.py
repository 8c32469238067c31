"""Every yaml is complete and right; every mistake is told in one line."""

import inspect
import re
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from annotated_types import Ge
from hydra.errors import HydraException, MissingConfigException
from hydra.utils import get_object
from torch import nn

from helpers.games import CPU, LOSS_SETTINGS, choices, chosen, composed, data_for, small
from twoplayer.commands.messages import explain
from twoplayer.config.check import _schema
from twoplayer.config.mistakes import in_words
from twoplayer.errors import ConfigurationError
from twoplayer.game.build import build_game
from twoplayer.models.base import Model
from twoplayer.paths import CONF
from twoplayer.settings import compose_config

GROUPS = ["data", "model", "loss", "trick", "metric", "callbacks", "logger", "trainer"]


@pytest.mark.parametrize(("group", "name"), [(group, name) for group in GROUPS for name in choices(group)])
def test_every_choice_is_valid(group: str, name: str) -> None:
    value = "[fd,sharpness]" if name == "sharpness" else f"[{name}]" if group in ("trick", "metric") else name
    overrides = ["loss=wasserstein"] if name == "wgan_gp" else LOSS_SETTINGS.get(name, [])
    if group == "model":
        overrides = [*chosen(name)[1:], *data_for(name), "trick=[ema]"]
    if name in ("reconstruction", "own_costs"):
        overrides = ["model=vae", "trick=[ema]"]
    if group == "data" and "???" in (CONF / "data" / f"{name}.yaml").read_text():
        with pytest.raises(ConfigurationError, match=r"^data\.(root|file) is missing: set it with data"):
            composed(f"data={name}")
    elif group == "data" and "shape: [" in (CONF / "data" / f"{name}.yaml").read_text():  # points
        composed(f"data={name}", "model=mlp")
    elif name != "wandb_online":
        composed(f"{group}={value}", *overrides)


@pytest.mark.parametrize("name", choices("experiment"))
def test_every_recipe_builds_and_opens_with_its_command_and_what_to_expect(name: str) -> None:
    build_game(composed(f"experiment={name}"), CPU)
    text = (CONF / "experiment" / f"{name}.yaml").read_text()
    assert f"#   python src/train.py experiment={name}\n" in text
    expected = re.split(r"\.(?:\n|$)", text.partition("# Expected: ")[2].replace("\n# ", " "))[0].partition("defaults:")[0]
    assert re.search(r"\b(fd|mode_error|stacked_kl|c2st|bits_per_dimension)\b", expected)
    assert "not measured yet" in expected or re.search(r"\d min\b", expected)


@pytest.mark.parametrize("path", sorted(CONF.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_yaml_file_and_class_share_their_name(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("#"), "a yaml opens with what it is"
    content = yaml.safe_load(text) or {}
    group = path.parent.name
    node = content.get("trick", {}).get(path.stem, content) if group == "trick" else content.get(group, content)
    if path.parent.name in ("data", "model", "loss", "trick", "metric") and "_target_" in node:
        module, name = node["_target_"].rsplit(".", 1)
        assert module.rsplit(".", 1)[1] == path.stem
        assert name.lower() == path.stem.replace("_", "")
        parameters = inspect.signature(get_object(node["_target_"])).parameters.values()
        if path.parent.name in ("trick", "metric"):
            assert all(parameter.default is parameter.empty for parameter in parameters), "the yaml is the one place for values"


@pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group in ("loss", "trick", "model", "data", "metric", "optimizer") for name in choices(group)]
)
def test_a_yaml_opens_with_a_line_that_says_what_it_is(group: str, name: str) -> None:
    lines = (CONF / group / f"{name}.yaml").read_text().splitlines()
    first = lines[1] if lines[0].startswith("# @package") else lines[0]
    assert re.match(r"# \S+", first), f"conf/{group}/{name}.yaml: say in its first line what it is, with the acronym of the literature"


KNOWN_AS = {
    "loss": {
        "LSGAN": "least_squares",
        "EBGAN": "energy",
        "BEGAN": "boundary_equilibrium",
        "MAGAN": "margin_adaptation",
        "GMMN": "moment_matching",
        "BGAN": "boundary_seeking",
        "McGAN": "mean_covariance",
        "WGAN": "wasserstein",
        "NSGAN": "non_saturating",
        "RSGAN": "relativistic",
        "RaSGAN": "relativistic_average",
    },
    "trick": {
        "TTUR": "two_learning_rates",
        "bCR": "consistency",
        "PacGAN": "packing",
        "SAGAN": "spectral_norm (SAGAN) or two_learning_rates",
        "SNGAN": "spectral_norm",
        "WGAN": "weight_clipping",
        "WGAN-GP": "wgan_gp",
        "RWGAN": "relaxed_wasserstein",
        "DiffAugment": "diff_augment",
    },
}


@pytest.mark.parametrize(("group", "acronym"), [(group, acronym) for group, known in KNOWN_AS.items() for acronym in known])
def test_a_method_is_known_by_its_acronym(group: str, acronym: str) -> None:
    for name in (acronym, acronym.lower()):
        missing = MissingConfigException("", f"{group}/{name}", choices(group))
        assert (
            explain(missing) == f"{group}={name}: {name} is not a choice of {group}; did you mean {KNOWN_AS[group][acronym]} ({acronym})?"
        )


@pytest.mark.parametrize("group", ["data", "optimizer", "logger", "trainer"])
def test_the_page_of_the_whole_experiment_lists_the_choices(group: str) -> None:
    line = next(line for line in (CONF / "train.yaml").read_text().splitlines() if re.match(rf"  - {group}(@\S+)?: ", line))
    listed = re.findall(r"\w+", re.sub(r"\(.*?\)", "", line.partition("#")[2]))
    assert sorted(listed) == choices(group), f"conf/train.yaml: name the choices of {group} in the comment of its line"


@pytest.mark.parametrize("group", ["loss", "trick"])
def test_every_choice_is_in_the_study_of_its_group_or_belongs_to_another(group: str) -> None:
    study = yaml.safe_load((CONF / "study" / {"loss": "losses", "trick": "tricks"}[group]).with_suffix(".yaml").read_text())
    words = " ".join(word for words in study["arms"].values() for word in words)
    compared = set(re.findall(r"\w+", words))
    # These belong to a loss of their own, make a picture, or are compared by the study of the tips.
    others = {"frozen_discriminator", "mmd_gp", "relaxed_wasserstein", "sgd_discriminator", "trajectory"}
    others |= {"weight_clipping", "wgan_div", "wgan_gp"}
    without_adversary = {"own_costs", "reconstruction"}
    assert {*choices(group)} - compared == (others if group == "trick" else without_adversary)


BAD = [
    ("seed=-1", "seed=-1: must be greater than or equal to 0"),
    ("seed=1.5", "seed=1.5: must be a whole number"),
    ("seed=abc", "seed=abc: must be a whole number"),
    ("seed=true", "seed=true: must be a whole number"),
    ("budget.images=0", "budget.images=0: must be greater than 0"),
    ("budget.images=null", "budget.images=null: must be a whole number"),
    ("budget.seconds=-3", "budget.seconds=-3: must be greater than 0"),
    ("engine=quick", "engine=quick: must be 'auto', 'eager', 'compiled' or 'captured'"),
    ("precision=fp16", "precision=fp16: must be 'auto', 'fp32' or 'bf16'"),
    ("optimizer.generator.lr=0", "optimizer.generator.lr=0: must be greater than 0"),
    ("optimizer.generator.lr=nan", "optimizer.generator.lr=nan: must be a finite number"),
    ("optimizer.discriminator.beta1=1.0", "optimizer.discriminator.beta1=1.0: must be less than 1"),
    ("model.generator.width=0", "model.generator.width=0: must be greater than or equal to 1"),
    ("model.generator.activation=tanhh", "model.generator.activation=tanhh: must be 'relu', 'leaky_relu'"),
    ("model.discriminator.downsampling=pool", "model.discriminator.downsampling=pool: must be 'strided', 'average' or 'max'"),
    ("data.image_size=20", "model=dcgan takes 16, 28, 32"),
    ("data.channels=3", "data.channels=3: must be 1"),
    ("data.batch_size=many", "data.batch_size=many: must be a whole number"),
    ("data.classes=[]", "data.classes=[]: must be"),
    ("data.classes=[1,-2]", "data.classes[1]=-2: must be greater than or equal to 0"),
    ("trainer.devices=none", "trainer.devices=none: must be a whole number"),
    ("trainer.accelerator=tpu", "trainer.accelerator=tpu: must be 'auto', 'cpu', 'gpu' or 'mps'"),
    ("callbacks.samples.every_images=0", "callbacks.samples.every_images=0: must be greater than 0"),
    ("model.discriminator.num_outputs=2", "loss=non_saturating takes one number per image; set model.discriminator.num_outputs=1"),
    ("+loss.num_outputs=2", "loss.num_outputs is not a setting"),
    ("metric.fd.num_samples=1", "metric.fd.num_samples=1: must be greater than or equal to 2"),
    ("+loss.margin=1", "loss.margin is not a setting"),
    ("+optimizer.generator.lrr=1", "optimizer.generator.lrr is not a setting; did you mean optimizer.generator.lr"),
    ("+sede=1", "sede is not a setting; did you mean seed"),
    ("~seed", "seed is missing"),
    ("~model._target_", "model._target_ is missing"),
    ("~optimizer.generator", "optimizer.generator._target_ is missing"),
    ("budget=5", "budget=5: this is a group of settings; set one of budget.images, budget.seconds"),
    ("loss._target_=twoplayer.nothing.X", "there is no such class"),
    ("logger.wandb._target_=pytorch_lightning.loggers.CSVLogger", "must be a subclass of twoplayer.loggers.base.RunLogger"),
    ("loss._target_=twoplayer.tricks.ema.EMA", "ema"),
    ("+trick.smooth._target_=twoplayer.losses.hinge.Hinge", "trick.smooth"),
]


@pytest.mark.parametrize(("override", "message"), BAD)
def test_a_wrong_setting_is_told_in_one_line(override: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        composed(override)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+trick.schedule.to.trick.r1.weight=1", "trick.schedule.to.trick.r1.weight is not a setting; did you mean"),
        ("+trick.schedule.to.trick.ema.ramp_up=1", "trick.schedule.to.trick.ema.ramp_up is not a setting; did you mean"),
        ("trick.schedule.to.optimizer.generator.lr=-1", "trick.schedule.to.optimizer.generator.lr=-1: must be a number, 0 or more"),
        ("+trick.schedule.to.optimizer.generator.beta1=1", "trick.schedule.to.optimizer.generator.beta1=1: must be less than 1"),
        ("trick.schedule.to=3", "trick.schedule.to=3: must be a valid dictionary"),
        (
            "trick.schedule.begin_images=120000",
            "must be less than trick.schedule.end_images=120000, which is budget.images by default",
        ),
    ],
)
def test_a_schedule_of_what_cannot_be_changed_is_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        composed("trick=[ema,schedule]", override)
    assert message in str(caught.value)


@pytest.mark.parametrize("moved", ["instance_noise.sigma", "top_k.share", "ada.probability"])
def test_a_schedule_leaves_what_a_trick_moves_itself(moved: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"trick\.schedule\.to\.trick\.{re.escape(moved)} is not a setting"):
        composed("trick=[ema,instance_noise,top_k,ada,schedule]", f"+trick.schedule.to.trick.{moved}=1")


def test_what_cannot_work_together_is_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigurationError, match="label_smoothing: Wasserstein has no labels"):
        composed("loss=wasserstein", "trick=[label_smoothing]")


@pytest.mark.parametrize("recipe", ["gan", "pacgan"])
def test_a_trick_that_a_recipe_undoes_is_refused(recipe: str) -> None:
    with pytest.raises(ConfigurationError, match=r"two_learning_rates sets optimizer.generator.lr=0.001, but the recipe sets .*=0.002"):
        composed(f"experiment={recipe}", "trick=[two_learning_rates]")
    rates = ["optimizer.generator.lr=1e-4", "optimizer.discriminator.lr=4e-4"]
    assert composed(f"experiment={recipe}", "trick=[two_learning_rates]", *rates).optimizer.discriminator.lr == 4e-4


@pytest.mark.parametrize(
    ("loss", "model"), [*(("mmd", model) for model in choices("model")), ("cramer", "dcgan"), ("mean_covariance", "dcgan")]
)
def test_a_loss_of_vectors_sets_how_many_numbers_d_gives(loss: str, model: str) -> None:
    num_outputs, refusal = 0, ""
    try:
        num_outputs = composed(f"loss={loss}", f"model={model}", *data_for(model)).model.discriminator.num_outputs
    except ConfigurationError as error:
        refusal = str(error)
    if refusal:
        assert re.match(rf"loss={loss}: .*model={model}\b.*(choose a loss|set loss)", refusal)
        return
    assert num_outputs == 16


@pytest.mark.parametrize("loss", ["mmd", "cramer", "mean_covariance"])
def test_d_may_give_other_numbers_for_a_loss_of_vectors_but_not_one(loss: str) -> None:
    assert composed(f"loss={loss}", "model.discriminator.num_outputs=8").model.discriminator.num_outputs == 8
    with pytest.raises(ConfigurationError, match=rf"num_outputs=1: loss={loss} compares vectors; set 2 or more, such as model"):
        composed(f"loss={loss}", "model.discriminator.num_outputs=1")


def test_batch_normalization_does_not_go_with_a_slope_per_image() -> None:
    with pytest.raises(ConfigurationError, match=r"wgan_gp: it does not work with model\.discriminator\.normalization=batch"):
        composed("loss=wasserstein", "trick=[wgan_gp]", "model.discriminator.normalization=batch")
    with pytest.raises(ConfigurationError, match=r"trick=mmd_gp: it does not work with .*=batch; set layer or none"):
        composed("loss=mmd", "trick=[mmd_gp]", "model.discriminator.normalization=batch")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["experiment=vae_gan", "trick=[uniform_latents]"], "trick=uniform_latents: it needs a prior, but model=vae_gan's is the normal"),
        (
            ["experiment=vae_gan", "trick=[mixed_batches]"],
            "trick=mixed_batches: with batch normalization D would normalize reconstructions",
        ),
        (["experiment=cogan", "trick=[uniform_latents]"], "trick=uniform_latents: it needs a prior, but model=cogan's is the normal"),
        (["experiment=pixel_cnn", "trick=[generator_noise]"], "trick=generator_noise: it needs hidden layers, but model=pixel_cnn draws"),
        (["experiment=pixel_cnn", "trick=[generator_dropout]"], "trick=generator_dropout: it needs hidden layers, but model=pixel_cnn"),
        (["experiment=gaussian_1d", "trick=[relaxed_wasserstein]"], "trick=relaxed_wasserstein: it needs images, and data=gaussian_1d"),
        (["experiment=bigan", "loss=moment_matching"], "loss=moment_matching: model=bigan's encoder learns from D's logits of pairs"),
        (["trick=[adaptive_steps,discriminator_steps]"], "there would be iterations in which no player is updated; leave one of them out"),
        (["trick=[pretrain_discriminator,frozen_discriminator]"], "there would be iterations in which no player is updated; leave one"),
        (["trick=[old_opponents]", "trick.old_opponents.age=1"], "trick.old_opponents.age=1: must be greater than or equal to 2"),
        (
            ["trick=[soft_labels]", "trick.soft_labels.real=[1.2,0.7]"],
            "trick.soft_labels.real=[1.2,0.7]: the first number must not be greater than the second; set [0.7,1.2]",
        ),
        (
            ["model.discriminator.packs=2"],
            "model.discriminator.packs=2: D is shown packs of 1; leave this out, and choose trick=packing for packs",
        ),
        (
            ["trick=[packing]", "model.discriminator.packs=1"],
            "model.discriminator.packs=1: D is shown packs of 2; leave this out, and set trick.packing.size",
        ),
        (["metric=[sharpness,classes]"], "sharpness is best at 1, so it cannot choose a checkpoint; set 'metric=[fd,classes,sharpness]'"),
    ],
)
def test_what_would_do_nothing_or_something_else_is_refused(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        composed(*settings)


def test_whole_numbers_may_be_written_as_1e6() -> None:
    config = composed("budget.images=1e6")
    assert config.budget.images == 1_000_000
    assert isinstance(config.budget.images, int)


def test_numbers_only_tricks_edit_the_place_where_the_number_lives() -> None:
    config = small("trick=[two_learning_rates]")
    assert config.optimizer.discriminator.lr == 4 * config.optimizer.generator.lr
    assert small("trick=[two_learning_rates]", "optimizer.generator.lr=0.5").optimizer.generator.lr == 0.5


def test_wgan_gp_takes_batch_normalization_out_of_the_critic() -> None:
    assert composed("loss=wasserstein", "trick=[wgan_gp]").model.discriminator.normalization == "layer"


@pytest.mark.parametrize(
    ("tricks", "name"), [("[]", "dcgan_hinge_plain_s3"), ("[ema,r1]", "dcgan_hinge_ema+r1_s3"), ("ema", "dcgan_hinge_ema_s3")]
)
def test_a_run_is_named_by_what_was_chosen(tricks: str, name: str) -> None:
    assert composed("loss=hinge", f"trick={tricks}", "seed=3").name == name


def test_the_command_line_replaces_a_recipes_tricks() -> None:
    assert list(composed("experiment=wgan_gp").trick) == ["ema", "wgan_gp", "discriminator_steps"]
    assert list(composed("experiment=wgan_gp", "trick=[ema]").trick) == ["ema"]
    with pytest.raises(ConfigurationError, match=r"trick\.discriminator_steps\.steps=3"):
        composed("experiment=wgan_gp", "trick=[ema]", "trick.discriminator_steps.steps=3")


@pytest.mark.parametrize(
    ("words", "generator", "discriminator"),
    [
        ([], "adam", "adam"),
        (["optimizer=sgd"], "sgd", "sgd"),
        (["optimizer/player@optimizer.generator=sgd"], "sgd", "adam"),
        (["optimizer=rmsprop", "optimizer/player@optimizer.discriminator=sgd"], "rmsprop", "sgd"),
        (["optimizer=optimistic_adam", "trick=[sgd_discriminator]"], "optimistic_adam", "sgd"),
    ],
)
def test_one_choice_sets_both_optimizers_and_another_sets_one(words: list[str], generator: str, discriminator: str) -> None:
    chosen = composed(*words).optimizer
    assert (chosen.generator._target_, chosen.discriminator._target_) == (
        f"twoplayer.game.optimizers.{generator}",
        f"twoplayer.game.optimizers.{discriminator}",
    )


def test_the_hint_to_choose_a_trick_keeps_those_that_are_chosen() -> None:
    words = ["trick=[ema]", "trick.r1.weight=3"]
    with pytest.raises(HydraException) as caught:
        compose_config("train", *words)
    assert (in_words(caught.value, "train", words) or "").endswith("choose it with 'trick=[ema,r1]'")


class _Parent(Model):
    def __init__(self, generator: nn.Module, *, width: Annotated[int, Ge(1)], depth: int) -> None:
        super().__init__(generator, nn.Identity())


class _Child(_Parent):
    def __init__(self, *, depth: Annotated[int, Ge(3)], kind: str, **settings: Any) -> None:
        super().__init__(depth=depth, **settings)


def test_the_settings_of_a_class_are_also_those_that_it_passes_on() -> None:
    parameters, hints = _schema(_Child)
    assert list(parameters) == ["generator", "width", "depth", "kind"]
    assert (hints["depth"], hints["width"]) == (Annotated[int, Ge(3)], Annotated[int, Ge(1)])
    assert list(_schema(_Parent)[0]) == ["generator", "width", "depth"]
