"""Two ranks on one CPU: shared state, own noise, the world size of every job of a multirun."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import get_class
from omegaconf import OmegaConf

from helpers import commands, pairs
from helpers.games import APART, SMALL, TOGETHER, WIDTHS, Record, play, state_sha256
from test_resuming import EVERYTHING, YAMLS
from twoplayer.losses.base import Loss
from twoplayer.paths import CONF
from twoplayer.storage import checkpoints

pytestmark = pytest.mark.process

TRICKS = ",".join(TOGETHER)


SGD = ["optimizer=sgd"]  # Adam amplifies rounding
COMPARING = ("relativistic_average", "softmax", "fisher", "mmd", "cramer", "moment_matching")
RUNS = {
    "tricks": ("dcgan", f"trick=[{TRICKS}]", "trick.pretrain_discriminator.images=32", "trick.discriminator_steps.steps=2"),
    "apart": ("dcgan", "+callbacks.no_reduce={_target_:helpers.rank_callbacks.NoReduce}"),
    "two": ("gan", "model.discriminator.dropout=0.0", "trick=[ema,r1]", *SGD),
    # Losses that compare the images of a batch with each other.
    **{loss: ("gan", "model.discriminator.dropout=0.0", f"loss={loss}", *SGD) for loss in COMPARING},
    "feature_matching": ("gan", "model.discriminator.dropout=0.0", "trick=[feature_matching]", *SGD),
    "undisturbed": ("gan", "trick=[ema]", "budget.images=960", "checkpoint.every_images=64"),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two ranks, all by one pair."""
    folder = tmp_path_factory.mktemp("runs")
    last = "apart"  # it takes the all-reduce out for good
    order = sorted(RUNS, key=lambda name: name == last)
    pairs.walk([(pairs.play, (str(folder / name), RUNS[name][0], "budget.images=160", *RUNS[name][1:], pairs.DUMP)) for name in order])
    return folder


def test_ranks_share_all_shared_state_and_draw_their_own_noise(runs: Path) -> None:
    ranks = pairs.dumps(runs / "tricks")
    assert [rank["world_size"] for rank in ranks] == [2, 2]
    assert any("running_mean" in name for name in ranks[0]["shared"])
    assert pairs.differences(ranks) == []
    assert not torch.equal(ranks[0]["noise"], ranks[1]["noise"])
    assert not torch.equal(ranks[0]["images"], ranks[1]["images"])
    summary = json.loads((runs / "tricks" / "summary.json").read_text())
    assert (summary["world_size"], summary["images_seen"], summary["status"]) == (2, 160, "finished")


def test_ranks_diverge_without_the_all_reduce(runs: Path) -> None:
    assert pairs.differences(pairs.dumps(runs / "apart"))


@pytest.mark.parametrize("name", ["two", "feature_matching", *COMPARING])
def test_two_ranks_train_like_one(name: str, runs: Path, tmp_path: Path, record: Record) -> None:
    play(tmp_path / "one", *RUNS[name][1:], "budget.images=160", pairs.DUMP)
    (one,), two = pairs.dumps(tmp_path / "one"), pairs.dumps(runs / name)
    assert torch.equal(one["images"], torch.cat([rank["images"] for rank in two], 1))
    equal = [torch.allclose(tensor.float(), two[0]["shared"][name].float(), atol=1e-6) for name, tensor in one["shared"].items()]
    if name == "two":
        record("P13", "tensors of two ranks equal to those of one", len(equal), sum(equal))
    assert all(equal)


def test_two_ranks_score_like_one(tmp_path: Path, data_root: str) -> None:
    mnist = [
        "data._target_=twoplayer.data.mnist.MNIST",
        f"++data.root='{data_root}'",
        "data.num_classes=10",
        "data.image_size=28",
        "data.classifier=mnist",
    ]
    few = ["data.classes=[3]", "metric=[fd,precision_recall]", "metric.fd.num_samples=1200", "metric.precision_recall.num_samples=1200"]
    settings = [*mnist, *few, "model.discriminator.dropout=0.0", *SGD, "budget.images=32"]
    c2st = ["metric=c2st", "metric.c2st.num_samples=1000", "metric.c2st.iterations=10"]
    other = [*mnist, "data.classes=[3]", *c2st, "model.discriminator.dropout=0.0", *SGD, "budget.images=32"]
    pairs.walk(  # three chunks of samples: two for one rank; and two, of which the second is smaller
        [(pairs.play, (str(tmp_path / "two"), "gan", *settings)), (pairs.play, (str(tmp_path / "two c2st"), "gan", *other))]
    )
    for suffix, chosen in {"": settings, " c2st": other}.items():
        one = play(tmp_path / f"one{suffix}", *chosen)["scores"]
        two = json.loads((tmp_path / f"two{suffix}" / "summary.json").read_text())["scores"]
        for name, score in one.items():
            assert (two[name]["untrained"], two[name]["floor"]) == (score["untrained"], score["floor"])
            assert two[name]["value"] == pytest.approx(score["value"], rel=1e-3)


def test_every_job_of_a_multirun_has_its_own_world_size_and_one_folder(tmp_path: Path) -> None:
    common = [*SMALL, *WIDTHS["gan"], "model=gan", "budget.images=64", pairs.DUMP, "sweep=here"]
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


def test_a_failed_rank_ends_the_run(tmp_path: Path) -> None:
    settings = [
        "model=gan",
        *SMALL,
        *WIDTHS["gan"],
        "budget.images=100000",
        "+callbacks.fail={_target_:helpers.rank_callbacks.Fail}",
        "trainer.devices=2",
        "run=run",
    ]
    finished = commands.run("train.py", *settings, folder=tmp_path, timeout=120, FAIL_ON_RANK="1")
    assert finished.code != 0
    assert "this run fails on purpose" in finished.errors


@pytest.mark.parametrize(
    ("setting", "message"), [("trainer.devices=3", "divisible by the number of ranks, 3"), ("trainer.devices=0", "greater than 0")]
)
def test_an_invalid_number_of_ranks_is_refused(setting: str, message: str, tmp_path: Path) -> None:
    finished = commands.run("train.py", setting, *SMALL, folder=tmp_path)
    assert finished.code == 2
    assert message in finished.errors
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_failed_job_of_several_ranks_does_not_stop_the_next_job(tmp_path: Path) -> None:
    common = [
        *SMALL,
        *WIDTHS["gan"],
        "model=gan",
        "budget.images=64",
        "sweep=here",
        "trainer.devices=2",
        "+callbacks.fail={_target_:helpers.rank_callbacks.Fail}",
    ]
    finished = commands.run("train.py", "-m", "loss=hinge,minimax", *common, folder=tmp_path, FAIL_ON_LOSS="Hinge")
    assert finished.code == 1
    statuses = [
        json.loads((path / "summary.json").read_text())["status"] for path in sorted((tmp_path / "here").iterdir()) if path.is_dir()
    ]
    assert statuses == ["failed", "finished"]


def loss_class(path: Path) -> Any:
    node: Any = OmegaConf.load(path)
    return get_class(node.get("loss", node)._target_)


STATEFUL = [f"loss/{path.stem}" for path in sorted((CONF / "loss").glob("*.yaml")) if loss_class(path).update is not Loss.update]
ALONE = [*STATEFUL, *(f"trick/{name}" for name in APART)]  # what "everything" does not have; each trick by itself is in the slow walk


@pytest.mark.parametrize("names", [pytest.param(ALONE, id="some"), pytest.param(list(YAMLS), id="all", marks=pytest.mark.slow)])
def test_two_ranks_resume_exactly_with_every_yaml(names: list[str], tmp_path: Path, record: Record) -> None:
    both = {name: YAMLS[name] for name in names} | {
        "everything": [*EVERYTHING, "+callbacks.rank_noise={_target_:helpers.rank_callbacks.RankNoise}"]
    }
    runs: list[Any] = []
    for name, overrides in both.items():
        whole, parts = str(tmp_path / name / "whole"), str(tmp_path / name / "parts")
        words = ["gan", *overrides, "budget.images=176", "checkpoint.every_images=96"]
        runs += [(pairs.play, (whole, *words)), (pairs.go_on, (parts, f"{whole}/checkpoints/00000096", *words))]
    pairs.walk(runs)
    held = 0
    for name in both:
        summary = json.loads((tmp_path / name / "parts" / "summary.json").read_text())
        assert (summary["world_size"], summary["resumed_from"]) == (2, 96)
        held += state_sha256(tmp_path / name / "parts") == state_sha256(tmp_path / name / "whole")
    record("P1", "resumes of two ranks, one of each yaml", len(both), held)
    assert held == len(both)


def test_per_rank_state_is_restored_to_its_rank(tmp_path: Path) -> None:
    trick = "+trick.memory={_target_:helpers.rank_callbacks.Memory}"
    whole, parts = str(tmp_path / "whole"), str(tmp_path / "parts")
    pairs.walk(
        [
            (pairs.play, (whole, "gan", trick, "budget.images=96")),
            (pairs.play, (parts, "gan", trick, "budget.images=48")),
            (pairs.play, (parts, "gan", trick, "budget.images=96", "resume=auto")),
        ]
    )
    _, checkpoint = checkpoints.newest(tmp_path / "parts") or pytest.fail("nothing saved")
    one, two = (state["tricks.chosen.memory.store"] for state in checkpoint["per_rank"])
    assert not torch.equal(one, two)
    assert state_sha256(tmp_path / "parts") == state_sha256(tmp_path / "whole")


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL])
def test_a_killed_or_signalled_rank_ends_the_run_which_then_resumes(
    number: signal.Signals, runs: Path, tmp_path: Path, record: Record
) -> None:
    settings = [
        "model=gan",
        *SMALL,
        *WIDTHS["gan"],
        "trainer.devices=2",
        "trick=[ema]",
        "budget.images=960",
        "checkpoint.every_images=64",
        "resume=auto",
    ]
    slow = "+callbacks.slow={_target_:helpers.interruption_callbacks.Slow,seconds:0.03}"
    running = commands.start("train.py", *settings, slow, "run=parts", folder=tmp_path)
    until = time.monotonic() + 60
    while not any(tmp_path.glob("parts/checkpoints/0*")):
        assert running.process.is_alive(), running.err.read_text()
        assert time.monotonic() < until
        time.sleep(0.02)
    (child,) = (int(path.parent.name) for path in Path("/proc").glob("[0-9]*/stat") if _parent(path) == running.process.pid)
    os.kill(child, number)
    started = time.monotonic()
    finished = running.finish(60)
    assert time.monotonic() - started < 20
    expected = {signal.SIGTERM: (143, "ended by SIGTERM"), signal.SIGKILL: (5, "rank 1 was killed")}[number]
    assert finished.code == expected[0], finished.errors
    assert expected[1] in finished.errors
    assert "Traceback" not in finished.errors
    again = commands.run("train.py", *settings, slow, "run=parts", folder=tmp_path)
    assert again.code == 0, again.errors
    assert json.loads((tmp_path / "parts" / "summary.json").read_text())["resumed_from"] > 0
    same = state_sha256(tmp_path / "parts") == state_sha256(runs / "undisturbed")
    record("P13", f"a signal to one of two ranks, then resume ({number.name})", 1, int(same))
    assert same


def _parent(stat: Path) -> int:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except OSError:
        return -1


SHARED = ["model=gan", *SMALL, *WIDTHS["gan"], "trainer.devices=2", "budget.images=64", pairs.DUMP]


def started_by(launcher: str, folder: Path, *settings: str) -> list[commands.Running]:
    """Two ranks of one run, as torchrun or srun starts them."""
    port = str(pairs.free_port())
    environments = [
        {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "GROUP_RANK": "0",
            "TORCHELASTIC_RUN_ID": "x",
        }
        if launcher == "torchrun"
        else {
            "SLURM_PROCID": str(rank),
            "SLURM_LOCALID": str(rank),
            "SLURM_NODEID": "0",
            "SLURM_NTASKS": "2",
            "SLURM_NTASKS_PER_NODE": "2",
            "SLURM_JOB_ID": "7",
            "SLURM_JOB_NAME": "gan",
        }
        for rank in range(2)
    ]
    return [
        commands.start(
            "train.py", *SHARED, *settings, "run=run", "resume=auto", folder=folder, label=str(rank),
            MASTER_ADDR="127.0.0.1", MASTER_PORT=port, **environment,
        )
        for rank, environment in enumerate(environments)
    ]  # fmt: skip


@pytest.mark.parametrize("launcher", ["torchrun", "slurm"])
def test_torchrun_or_slurm_may_start_the_ranks(launcher: str, tmp_path: Path) -> None:
    for images, resumed_from in ((64, 0), (96, 64)):
        ends = [rank.finish(60) for rank in started_by(launcher, tmp_path, f"budget.images={images}")]
        assert [end.code for end in ends] == [0, 0], [end.errors for end in ends]
        summary = json.loads((tmp_path / "run" / "summary.json").read_text())
        assert (summary["world_size"], summary["images_seen"], summary["resumed_from"]) == (2, images, resumed_from)
    assert pairs.differences(pairs.dumps(tmp_path / "run")) == []


def test_all_ranks_return_the_code_of_the_signal_though_srun_ends_them(tmp_path: Path) -> None:
    """Once the first rank has ended, `srun --kill-on-bad-exit` sends SIGTERM to the others."""
    slow = "+callbacks.slow={_target_:helpers.interruption_callbacks.Slow,seconds:1.5}"
    ranks = started_by("slurm", tmp_path, "budget.images=100000", slow)
    until = time.monotonic() + 60
    while not list(tmp_path.glob("run/samples/00000000.png")):
        assert all(rank.process.is_alive() for rank in ranks)
        assert time.monotonic() < until
        time.sleep(0.05)
    time.sleep(0.5)
    for number in (signal.SIGUSR1, signal.SIGTERM):
        for rank in ranks:
            rank.send(number)
        time.sleep(1.2)
    while ranks[0].process.is_alive():
        ranks[0].send(signal.SIGTERM)
        time.sleep(0.01)
    assert [rank.finish(60).code for rank in ranks] == [128 + signal.SIGUSR1] * 2
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "interrupted"


def test_ranks_started_by_torchrun_need_a_shared_folder(tmp_path: Path) -> None:
    environment: Any = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "x"}
    finished = commands.run("train.py", *SHARED, folder=tmp_path, **environment)
    assert finished.code == 2
    assert "share one folder; set run=<folder>" in finished.errors
    wrong = commands.run("train.py", *SHARED, "trainer.devices=1", "run=run", folder=tmp_path, **environment)
    assert wrong.code == 2
    assert "torchrun started 2 processes" in wrong.errors
