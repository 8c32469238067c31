"""Two ranks on one CPU: the same shared state, different noise, the right world size in every job of a multirun."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import commands
from conftest import SMALL, WIDTHS, choices

DUMP = "+callbacks.dump={_target_:rank_callbacks.Dump}"
TRICKS = ",".join(choices("trick"))


def play(folder: Path, *overrides: str, model: str = "dcgan") -> list[dict[str, Any]]:
    """What each rank left at the end of a small run."""
    finished = commands.run(
        "train.py", f"model={model}", *SMALL, *WIDTHS[model], "budget.images=160", DUMP, f"run={folder / 'run'}", *overrides, folder=folder
    )
    assert finished.code == 0, finished.errors
    return [torch.load(path, weights_only=True) for path in sorted((folder / "run").glob("rank*.pt"))]


def differences(ranks: list[dict[str, Any]]) -> list[str]:
    one, two = (rank["shared"] for rank in ranks)
    assert one.keys() == two.keys()
    return [name for name in one if not torch.equal(one[name], two[name])]


def test_ranks_share_all_shared_state_and_draw_their_own_noise(tmp_path: Path) -> None:
    ranks = play(
        tmp_path, "trainer.devices=2", f"trick=[{TRICKS}]", "trick.pretrain_discriminator.images=32", "trick.discriminator_steps.steps=2"
    )
    assert [rank["world_size"] for rank in ranks] == [2, 2]
    assert any("running_mean" in name for name in ranks[0]["shared"])
    assert differences(ranks) == []
    assert not torch.equal(ranks[0]["noise"], ranks[1]["noise"])
    assert not torch.equal(ranks[0]["images"], ranks[1]["images"])
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["world_size"], summary["images_seen"], summary["status"]) == (2, 160, "finished")


def test_without_the_all_reduce_ranks_drift_apart(tmp_path: Path) -> None:
    assert differences(play(tmp_path, "trainer.devices=2", "+callbacks.no_reduce={_target_:rank_callbacks.NoReduce}"))


def test_two_ranks_play_the_game_of_one(tmp_path: Path) -> None:
    sgd = ["optimizer@optimizer.generator=sgd", "optimizer@optimizer.discriminator=sgd"]  # Adam amplifies rounding
    settings = ["model.discriminator.dropout=0.0", "trick=[ema,r1]", *sgd]
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (one,) = play(tmp_path / "one", *settings, model="gan")
    two = play(tmp_path / "two", *settings, "trainer.devices=2", model="gan")
    assert torch.equal(one["images"], torch.cat([rank["images"] for rank in two], 1))
    for name, tensor in one["shared"].items():
        assert torch.allclose(tensor.float(), two[0]["shared"][name].float(), atol=1e-6), name


def test_a_multirun_gives_every_job_its_ranks_and_one_folder(tmp_path: Path) -> None:
    common = [*SMALL, *WIDTHS["gan"], "model=gan", "budget.images=64", DUMP, "sweep=here"]
    finished = commands.run("train.py", "-m", "trainer.devices=1,2,1", "loss=hinge", *common, folder=tmp_path)
    assert finished.code == 0, finished.errors
    folders = sorted(path for path in (tmp_path / "here").iterdir() if path.is_dir())
    assert [path.name for path in folders] == [f"{number}_gan_hinge_plain_s0" for number in range(3)]
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    for folder, expected in zip(folders, (1, 2, 1), strict=True):
        ranks = [torch.load(path, weights_only=True) for path in sorted(folder.glob("rank*.pt"))]
        assert len(ranks) == expected
        assert all(rank["world_size"] == expected and rank["images"].shape[:2] == (4, 16 // expected) for rank in ranks)
        assert json.loads((folder / "summary.json").read_text())["images_seen"] == 64


def test_a_rank_that_fails_takes_the_run_down(tmp_path: Path) -> None:
    settings = [
        "model=gan",
        *SMALL,
        *WIDTHS["gan"],
        "budget.images=100000",
        "+callbacks.fail={_target_:rank_callbacks.Fail}",
        "trainer.devices=2",
        "run=run",
    ]
    finished = commands.run("train.py", *settings, folder=tmp_path, timeout=120, FAIL_ON_RANK="1")
    assert finished.code != 0
    assert "this run fails on purpose" in finished.errors


@pytest.mark.parametrize(("setting", "message"), [("trainer.devices=3", "does not divide by 3"), ("trainer.devices=0", "greater than 0")])
def test_ranks_that_cannot_be_are_refused(setting: str, message: str, tmp_path: Path) -> None:
    finished = commands.run("train.py", setting, *SMALL, folder=tmp_path)
    assert finished.code == 2
    assert message in finished.errors
    assert not list(tmp_path.iterdir())


def test_a_job_whose_ranks_fail_does_not_take_the_next_with_it(tmp_path: Path) -> None:
    common = [
        *SMALL,
        *WIDTHS["gan"],
        "model=gan",
        "budget.images=64",
        "sweep=here",
        "trainer.devices=2",
        "+callbacks.fail={_target_:rank_callbacks.Fail}",
    ]
    finished = commands.run("train.py", "-m", "loss=hinge,minimax", *common, folder=tmp_path, FAIL_ON_LOSS="Hinge")
    assert finished.code == 1
    statuses = [
        json.loads((path / "summary.json").read_text())["status"] for path in sorted((tmp_path / "here").iterdir()) if path.is_dir()
    ]
    assert statuses == ["failed", "finished"]
