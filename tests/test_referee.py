"""The referee: each rule on evidence, the evidence itself, and runs with injected failures."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from safetensors.torch import save_file

from helpers import pairs
from helpers.commands import run
from helpers.games import CPU, SMALL, WIDTHS, composed, play, small, state_sha256
from helpers.synthetic import Shapes
from twoplayer.data.base import to_unit_range
from twoplayer.errors import ConfigurationError, NumericsError
from twoplayer.game.build import build_game
from twoplayer.overrides import changed
from twoplayer.paths import CONF
from twoplayer.referee.base import Advice, Rule
from twoplayer.referee.evidence import Evidence, Witness
from twoplayer.runs import advice
from twoplayer.runs.plan import plan_run
from twoplayer.runs.rollback import train_with_rollback
from twoplayer.storage import checkpoints, lock
from twoplayer.storage.run_folder import read_summary, write_summary

RULES: dict[str, Rule] = {name: instantiate(node) for name, node in OmegaConf.load(CONF / "referee" / "default.yaml").rules.items()}
HEALTHY: Evidence = {
    "variation": 1.0,
    "spread": 0.9,
    "spread_within": 0.8,
    "shift": 0.02,
    "classes": 0.98,
    "order/held_out": 0.51,
    "copies": 0.05,
    "accuracy/pairs": 0.8,
    "gradient_norm/generator": 1.0,
    "gradient_norm/discriminator": 4.0,
}
FAILING: dict[str, Evidence] = {
    "discriminator_overpowers": {"accuracy/pairs": 1.0, "shift": 2.0},
    "discriminator_clueless": {"accuracy/pairs": 0.5, "shift": 2.0},
    "discriminator_overfits": {"order/held_out": 0.9},
    "mode_collapse": {"classes": 0.1},
    "low_diversity": {"spread": 0.01},
    "class_collapse": {"spread_within": 0.02},
    "constant_output": {"variation": 0.0},
    "vanishing_gradient": {"gradient_norm/generator": 1e-6},
    "exploding_gradient": {"gradient_norm/generator": 1e4},
    "memorization": {"copies": 1.0},
}
WATCH = [
    "callbacks.scores.every_images=10000",
    "referee.every_images=64",
    "referee.num_samples=32",
    "referee.copies_every=2",
    "data.root=null",
]


def looks(*each: Evidence, every: int = 30_000) -> list[Evidence]:
    return [{"images_seen": float(every * (index + 1)), **look} for index, look in enumerate(each)]


def test_each_rule_has_a_failure_here() -> None:
    assert FAILING.keys() == RULES.keys()


@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_broken_by_its_failure_alone_and_only_after_enough_looks(name: str) -> None:
    rule, bad = RULES[name], HEALTHY | FAILING[name]
    for other, failure in FAILING.items():
        history = looks(*[HEALTHY] * 3, *[HEALTHY | failure] * rule.looks)
        assert rule.broken(history) == (history[3] if other == name else None), other
    assert not rule.broken(looks(*[HEALTHY] * 6))
    assert not rule.broken(looks(HEALTHY, *[bad] * rule.looks, HEALTHY)), "it goes by the last looks"
    if rule.looks > 1:
        assert not rule.broken(looks(*[HEALTHY] * 3, *[bad] * (rule.looks - 1)))
    text = rule.says(bad)
    assert text == text.strip()
    assert not text.endswith(".")
    assert text[0].islower()
    assert rule.advice


@pytest.mark.parametrize("name", RULES)
def test_a_rule_waits_and_does_not_judge_what_it_cannot_read(name: str) -> None:
    rule, bad = RULES[name], HEALTHY | FAILING[name]
    if rule.grace_images:
        assert not rule.broken(looks(*[HEALTHY] * 3, *[bad] * rule.looks, every=rule.grace_images // (4 + rule.looks)))
    for missing in rule.reads:
        assert not rule.broken(looks(*[{key: value for key, value in look.items() if key != missing} for look in [HEALTHY, *[bad] * 5]]))
    without = {"images_seen": 1.0}  # such as while D is trained ahead
    assert rule.broken([without, *looks(*[HEALTHY] * 3, *[bad] * rule.looks)])
    rare = [look if index % 3 == 0 else {} for index, look in enumerate([bad] * 31)]
    if name not in ("vanishing_gradient", "exploding_gradient"):  # which compare with earlier looks
        assert rule.broken(looks(*rare)), "looks without its evidence do not interrupt it"
        assert not rule.broken(looks(*rare, {})), "it finds nothing at a look that it cannot judge"


def test_all_advice_can_be_composed() -> None:
    config = OmegaConf.to_container(composed("trick=[]", "loss=minimax", "data.num_images=64"), resolve=True)
    for what in {what for rule in RULES.values() for what in rule.advice}:
        given = advice.change(config, ["trick=[]", "loss=minimax"], what)
        assert given is not None
        composed(*changed(["trick=[]", "loss=minimax"], given))


def test_advice_is_a_command_that_keeps_the_rest_and_is_left_out_if_it_is_followed_already() -> None:
    config = OmegaConf.to_container(composed("trick=[ema,r1]", "seed=3"), resolve=True)
    change = advice.change(config, [], Advice(trick="packing"))
    assert change == "trick=[ema,r1,packing]"
    given = advice.command(["trick=[ema,r1]", "seed=3", "run=outputs/x"], change)
    assert given.endswith("train.py seed=3 'trick=[ema,r1,packing]'")
    assert advice.change(config, [], Advice(trick="r1")) is None
    assert advice.change(config, [], Advice(setting="loss", value="non_saturating")) is None
    lower = advice.change(config, [], Advice(setting="optimizer.discriminator.lr", times=0.5))
    assert lower == "optimizer.discriminator.lr=0.001"
    assert advice.command(["optimizer.discriminator.lr=1"], lower).endswith("train.py optimizer.discriminator.lr=0.001")


def stored(path: Path, images: torch.Tensor) -> str:
    save_file({"images": to_unit_range(images)}, path)
    return str(path)


def shapes() -> Shapes:
    data = instantiate(small("data.image_size=16").data)
    assert isinstance(data, Shapes)
    return data


def impostor(path: Path, images: torch.Tensor) -> list[str]:
    return ["+trick.impostor._target_=helpers.injected.Impostor", f"+trick.impostor.file='{stored(path, images)}'"]


def test_evidence_of_real_images_is_that_of_a_good_generator(tmp_path: Path) -> None:
    data = shapes()
    game = build_game(small(*impostor(tmp_path / "x.safetensors", data.splits.validation.images)), CPU)
    found = Witness(data, CPU, 64).look(game, 64, copies=True)
    assert found.pop("shift") < 0.1
    assert found.pop("copies") < 0.2
    assert 0.3 < found.pop("order/held_out") < 0.7
    assert {name: found.pop(name) for name in ("variation", "spread")} == {
        name: pytest.approx(1, abs=0.2) for name in ("variation", "spread")
    }
    for side in ("train", "held_out", "samples"):
        assert found.pop(f"logits/{side}_10") <= found.pop(f"logits/{side}_50") <= found.pop(f"logits/{side}_90")
    assert not found


def test_evidence_shows_copies_and_equal_samples(tmp_path: Path) -> None:
    data = shapes()
    copies = build_game(small(*impostor(tmp_path / "x.safetensors", data.splits.train.images)), CPU)
    assert Witness(data, CPU, 64).look(copies, 64, copies=True)["copies"] == 1
    one = build_game(small(*impostor(tmp_path / "y.safetensors", data.splits.train.images[:1])), CPU)
    found = Witness(data, CPU, 64).look(one, 64, copies=False)
    assert found["variation"] == found["spread"] == 0
    assert "copies" not in found


def test_evidence_within_classes_shows_a_conditional_generator_that_ignores_its_latents() -> None:
    data = shapes()
    game = build_game(small("model.generator.conditioning=concatenate", "model.discriminator.conditioning=projection", model="dcgan"), CPU)
    images, labels = data.splits.validation.images, data.splits.validation.labels
    of_class = {int(label): to_unit_range(images[labels == label]) for label in labels.unique()}

    def draw(count: int) -> float:
        def sample(latents: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return torch.stack([of_class[int(label)][number % count] for number, label in enumerate(labels)])

        game.sample = sample  # type: ignore[method-assign, assignment]
        return Witness(data, CPU, 128).look(game, 128, copies=False)["spread_within"]

    assert draw(1) < 1e-6
    assert draw(40) == pytest.approx(1, abs=0.35)
    assert "spread_within" not in Witness(data, CPU, 64).look(build_game(small(), CPU), 64, copies=False)


def test_evidence_of_classes_comes_from_the_classifier(data_root: str) -> None:
    data = instantiate(composed(f"data.root={data_root}").data)
    witness = Witness(data, CPU, 128)
    config = composed(f"data.root={data_root}", "trick=[]")
    game = build_game(config, CPU)
    images, labels = data.splits.train
    for classes, expected in (({3}, 0.1), (set(range(10)), 1.0)):
        chosen = to_unit_range(images[torch.isin(labels, torch.tensor(sorted(classes)))][:512])
        game.sample = lambda latents, _, chosen=chosen: chosen[: len(latents)]  # type: ignore[method-assign, assignment, misc]
        assert witness.look(game, 128, copies=False)["classes"] == pytest.approx(expected, abs=0.05)


def test_the_referee_changes_nothing_in_training(tmp_path: Path) -> None:
    watched = play(tmp_path / "watched", "budget.images=320", *WATCH[1:4], "trick=[generator_dropout,instance_noise]", model="dcgan")
    play(tmp_path / "alone", "budget.images=320", "referee=none", "trick=[generator_dropout,instance_noise]", model="dcgan")
    assert watched["referee"]["looks"] == 5
    both = [
        torch.load(next((tmp_path / name / "checkpoints").glob("*.ckpt")), weights_only=True)["state_dict"] for name in ("watched", "alone")
    ]
    assert all(torch.equal(value, both[1][name]) for name, value in both[0].items() if isinstance(value, torch.Tensor))


def test_findings_are_in_the_summary_and_a_run_stops_at_one(tmp_path: Path) -> None:
    chosen = [*WATCH[1:4], "+trick.deaf._target_=helpers.injected.Deaf", "referee.rules.constant_output.grace_images=0"]
    summary = play(tmp_path / "run", "budget.images=640", "referee.act=stop", *chosen, model="dcgan")
    assert summary["images_seen"] == 128
    assert summary["status"] == "finished"
    found = {finding["rule"]: finding for finding in summary["referee"]["findings"]}
    finding = found["constant_output"]
    assert finding["first_images"] == finding["last_images"] == 128
    assert "ignores its latents" in finding["says"]
    assert all(word.startswith("python ") for word in finding["try"])
    more = play(tmp_path / "run", "budget.images=640", "referee.act=warn", "resume=auto", *chosen, model="dcgan")
    assert more["images_seen"] == 640
    (finding,) = [finding for finding in more["referee"]["findings"] if finding["rule"] == "constant_output"]
    assert (finding["first_images"], finding["last_images"]) == (128, 640)


def test_a_gradient_that_is_not_finite_is_a_finding(tmp_path: Path) -> None:
    poison = ["+trick.poison._target_=helpers.injected.Poison", "+trick.poison.player=discriminator", "+trick.poison.images=160"]
    with pytest.raises(NumericsError):
        play(tmp_path / "run", "budget.images=640", *poison)
    (finding,) = json.loads((tmp_path / "run" / "summary.json").read_text())["referee"]["findings"]
    assert finding["rule"] == "not_finite"
    assert finding["try"]


def test_findings_and_looks_resume_exactly(tmp_path: Path) -> None:
    chosen = [*WATCH[1:4], "budget.images=480", "trick=[r1]"]
    play(tmp_path / "whole", *chosen, model="dcgan")
    for images in (208, 480):  # between two looks, then on
        play(tmp_path / "parts", *chosen, f"budget.images={images}", "resume=auto", model="dcgan")
    assert state_sha256(tmp_path / "whole") == state_sha256(tmp_path / "parts")


def roll(folder: Path, *overrides: str) -> dict[str, Any]:
    """A run that is rolled back, in this process."""
    words = [*SMALL, *WIDTHS["gan"], "model=gan", "referee.act=rollback", "referee.every_images=64", "referee.num_samples=32", *overrides]
    config = composed(*words, f"run='{folder}'")
    return train_with_rollback(config, plan_run(config, folder, overrides=words))


ALWAYS = [
    "+referee.rules.always._target_=helpers.injected.Always",
    "+referee.rules.always.looks=2",
    "+referee.rules.always.grace_images=64",
]


def test_a_run_is_rolled_back_to_a_checkpoint_with_one_setting_changed(tmp_path: Path) -> None:
    settings = [*ALWAYS, "budget.images=480", "checkpoint.every_images=16", "trick=[ema]"]
    summary = roll(tmp_path / "run", *settings)
    first = json.loads((tmp_path / "run" / "summary.json").read_text())
    told = {"number": 1, "from": str(tmp_path / "run"), "rule": "always", "total_images": 480, "folder": str(tmp_path / "run_rollback1")}
    told["changes"] = ["referee.rules.always.looks=1000"]
    assert first["images_seen"] == 128
    assert first["referee"]["stopped"]
    assert {name: first["rolled_back"][name] for name in told} == told
    assert {name: summary["rollback"][name] for name in told} == told
    assert Path(summary["rollback"]["checkpoint"]).name.startswith("00000048-")
    assert (summary["images_seen"], summary["status"]) == (480 - 48, "finished")
    _, before = checkpoints.newest(tmp_path / "run") or pytest.fail("nothing saved")
    _, after = checkpoints.newest(tmp_path / "run_rollback1") or pytest.fail("nothing saved")
    assert before["state_dict"].keys() == after["state_dict"].keys()
    assert roll(tmp_path / "run", *settings, "resume=auto") == summary, "it goes on in the last part, which is finished"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run_rollback1"]


def test_a_rolled_back_run_starts_from_the_weights_of_the_checkpoint(tmp_path: Path) -> None:
    still = ["optimizer.generator.lr=1e-30", "optimizer.discriminator.lr=1e-30", "trick=[]"]
    roll(tmp_path / "run", *ALWAYS, "budget.images=480", "checkpoint.every_images=32", *still)
    one, two = (checkpoints.newest(tmp_path / name) or pytest.fail("nothing saved") for name in ("run", "run_rollback1"))
    weights = [name for name in one.content["state_dict"] if name.endswith(".weight") and name.startswith("model.")]
    assert weights
    for name in weights:
        assert torch.equal(one.content["state_dict"][name], two.content["state_dict"][name])


def test_a_run_is_rolled_back_three_times_at_most_and_then_fails_as_it_would(tmp_path: Path) -> None:
    poison = ["+trick.poison._target_=helpers.injected.Poison", "+trick.poison.player=discriminator", "+trick.poison.images=160"]
    with pytest.raises(NumericsError):
        roll(tmp_path / "run", "budget.images=640", *poison)
    names = ["run", "run_rollback1", "run_rollback2", "run_rollback3"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in names]
    assert summaries[3]["rollback"]["changes"] == ["optimizer.generator.lr=0.001", "optimizer.discriminator.lr=0.0005", "trick=[r1]"]
    assert all("/00000128-" in summary["rolled_back"]["checkpoint"] for summary in summaries[:3])
    assert "rolled_back" not in summaries[3]
    assert summaries[3]["status"] == "failed"


@pytest.mark.parametrize("begun", [True, False])
def test_a_later_part_of_a_chain_resumes_by_its_own_name(begun: bool, tmp_path: Path) -> None:
    poison = ["+trick.poison._target_=helpers.injected.Poison", "+trick.poison.player=discriminator", "+trick.poison.images=160"]
    with pytest.raises(NumericsError):
        roll(tmp_path / "run", "budget.images=640", *poison)

    def changes() -> list[list[str]]:
        return [read_summary(tmp_path / f"run_rollback{number}")["rollback"]["changes"] for number in (1, 2, 3)]

    before = changes()
    for number in (2, 3):
        shutil.rmtree(tmp_path / f"run_rollback{number}")
    words = read_summary(tmp_path / "run")["rolled_back"]["overrides"]
    cut = read_summary(tmp_path / "run_rollback1")
    del cut["rolled_back"]
    write_summary(tmp_path / "run_rollback1", cut)
    if not begun:  # ended before its first checkpoint
        shutil.rmtree(tmp_path / "run_rollback1" / "checkpoints")
    folder = tmp_path / "run_rollback1"
    config = composed(*words, f"run='{folder}'", "resume=auto")
    with pytest.raises(NumericsError):
        train_with_rollback(config, plan_run(config, folder, overrides=words))
    assert changes() == before
    assert len(list(tmp_path.iterdir())) == 4


def test_resume_auto_without_a_folder_finds_a_chain_whose_last_part_is_unfinished(tmp_path: Path) -> None:
    first = tmp_path / "outputs" / "day" / "run"
    roll(first, *ALWAYS, "budget.images=480", "checkpoint.every_images=16")
    words = [*SMALL, *WIDTHS["gan"], "model=gan", "referee.act=rollback", "referee.every_images=64", "referee.num_samples=32", *ALWAYS]
    other = first.with_name("other")

    def planned() -> Path:
        config = composed(*words, "budget.images=480", "checkpoint.every_images=16", "resume=auto", f"run='{other}'")
        found = plan_run(config).folder
        lock.release(found)
        return found

    assert planned() == other
    last = first.with_name("run_rollback1")
    write_summary(last, read_summary(last) | {"status": "interrupted"})
    assert planned() == first


def test_a_change_that_the_weights_do_not_fit_starts_anew(tmp_path: Path) -> None:
    summary = roll(tmp_path / "run", *ALWAYS, "+referee.rules.always.advises=packing", "budget.images=256")
    assert summary["rollback"]["checkpoint"] is None
    assert summary["rollback"]["changes"] == ["trick=[packing]"]
    assert (tmp_path / "run_rollback1" / "config.yaml").read_text().count("init_from: null") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run_rollback1"], "nothing else is advised"


def test_ranks_that_torchrun_has_started_are_not_rolled_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigurationError, match=r"ranks that torchrun has started .*; set referee\.act=stop, or let trainer\.devices"):
        small("referee.act=rollback")


@pytest.mark.slow
def test_several_ranks_are_rolled_back_together(tmp_path: Path) -> None:
    words = [*SMALL, *WIDTHS["gan"], "model=gan", "referee.act=rollback", "referee.every_images=64", "referee.num_samples=32", *ALWAYS]
    done = run(
        "train.py",
        *words,
        "budget.images=480",
        "checkpoint.every_images=16",
        "trainer.devices=2",
        f"run={tmp_path / 'run'}",
        folder=tmp_path,
    )
    assert done.code == 0, done.errors
    summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("run", "run_rollback1")]
    assert summaries[0]["rolled_back"]["folder"] == str(tmp_path / "run_rollback1")
    assert summaries[1]["rollback"]["changes"] == ["referee.rules.always.looks=1000"]
    assert [summary["images_seen"] for summary in summaries] == [128, 480 - 48]


def test_nothing_is_rolled_back_where_no_advice_applies(tmp_path: Path) -> None:
    assert roll(tmp_path / "run", *ALWAYS, "+referee.rules.always.advises=nothing", "budget.images=480")["images_seen"] == 128
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("referee.act=shout", r"referee\.act=shout: must be 'warn', 'stop' or 'rollback'"),
        ("referee.rules.mode_collapse.most_classes=2", r"referee\.rules\.mode_collapse\.most_classes=2: must be less than 1"),
        ("referee.rules.mode_collapse.looks=0", r"referee\.rules\.mode_collapse\.looks=0"),
        ("+referee.rules.mine._target_=twoplayer.losses.hinge.Hinge", r"referee\.rules\.mine\._target_.*must be a subclass of .*Rule"),
    ],
)
def test_wrong_settings_are_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        small(*override.split())


@pytest.mark.process
def test_two_ranks_find_what_one_finds(tmp_path: Path) -> None:
    chosen = ["model.discriminator.dropout=0.0", "referee.every_images=64", "referee.num_samples=32", "budget.images=320"]
    play(tmp_path / "1", *chosen)
    pairs.walk([(pairs.play, (str(tmp_path / "2"), "gan", *chosen))])
    found: dict[int, Any] = {}
    for ranks in (1, 2):
        rows = (tmp_path / str(ranks) / "metrics.csv").read_text().splitlines()
        names = rows[0].split(",")
        found[ranks] = [
            [float(value) for name, value in zip(names, row.split(","), strict=True) if name.startswith("referee/") and value]
            for row in rows[1:]
        ]
        found[ranks] = [row for row in found[ranks] if row]
    assert len(found[1]) == 5
    assert found[2] == [pytest.approx(row, rel=1e-3, abs=1e-3) for row in found[1]]
