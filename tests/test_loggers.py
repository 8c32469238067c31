"""What loggers receive, down to the pixels."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import wandb
from PIL import Image

from helpers import commands
from helpers.games import SMALL, WIDTHS, composed
from twoplayer.loggers.base import History
from twoplayer.loggers.run_folder import RunFolder
from twoplayer.loggers.wandb import WeightsAndBiases
from twoplayer.runs.plan import plan_run
from twoplayer.runs.train import train
from twoplayer.settings import short

pytestmark = pytest.mark.process


CONFIG: dict[str, Any] = {part: {"_target_": f"a.{part}.Any"} for part in ("data", "model", "loss")} | {"trick": {}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run with W&B offline."""
    folder = tmp_path_factory.mktemp("wandb")
    settings = [
        "model=gan",
        *SMALL,
        *WIDTHS["gan"],
        "logger=wandb",
        "trick=[ema]",
        "budget.images=160",
        "callbacks.scalars.every_iterations=5",
        "callbacks.samples.every_images=80",
    ]
    finished = commands.run("train.py", *settings, "run=here", folder=folder)
    assert finished.code == 0, finished.errors
    return folder / "here"


def inspect(run: Path) -> dict[str, Any]:
    """The offline run as W&B's own tool reads it."""
    command = [
        str(Path(sys.executable).parent / "wandb"),
        "leet",
        "inspect",
        "--summary",
        "--json",
        str(next((run / "wandb").glob("offline-run-*"))),
    ]
    summary: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return summary


def test_wandb_has_scalars_pictures_and_the_state_of_the_run(run: Path) -> None:
    seen = json.dumps(inspect(run))
    for name in (
        "loss/discriminator",
        "loss/generator",
        "accuracy",
        "output/real",
        "output/fake",
        "images_seen",
        "samples",
        "progress",
        "non_saturating",
        "ema",
    ):
        assert f'"{name}"' in seen, name
    assert "finished" in seen


def test_runs_that_differ_by_their_seeds_are_one_group_and_the_sweep_is_a_tag(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    for number, more in enumerate((["seed=1"], ["seed=2", "checkpoint.every_seconds=7"], ["seed=1", "optimizer.generator.lr=0.01"])):
        words = ["model=gan", *SMALL, *WIDTHS["gan"], "budget.images=32", "trick=[ema]", *more]
        folder = tmp_path / "losses" / str(number)
        config = composed(*words, f"run='{folder}'", "+logger.told={_target_:helpers.told.Told}")
        train(config, plan_run(config, folder, overrides=words, in_sweep=number < 2))
        seen.append(json.loads((folder / "told.json").read_text()))
    first, second, third = seen
    assert first["group"] == second["group"]
    assert first["group"].startswith("synthetic_gan_non_saturating_ema ")
    assert "seed" not in first["group"]
    assert third["group"] != first["group"]
    assert len(third["group"]) == 128, "what is longer ends with a digest"
    assert first["tags"] == ["synthetic", "gan", "non_saturating", "ema", "losses"]
    assert third["tags"] == first["tags"][:-1]
    flat = short(first["config"])
    assert (flat["model"], flat["loss"], flat["tricks"], flat["seed"]) == ("gan", "non_saturating", "ema", 1)
    assert flat["optimizer.generator.lr"] == first["config"]["optimizer"]["generator"]["lr"]
    assert all(not isinstance(value, dict) and "_target_" not in name for name, value in flat.items())
    assert len(flat) < 80


@pytest.mark.parametrize(
    ("before", "now", "replayed"), [("online", "online", False), ("offline", "online", True), ("offline", "offline", True)]
)
def test_history_that_the_server_lacks_is_logged_again(
    before: Literal["offline", "online"], now: Literal["offline", "online"], replayed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    fake = SimpleNamespace(id="same", define_metric=lambda *names, **how: None, log=lambda row, step: rows.append(row))
    monkeypatch.setattr(wandb, "init", lambda **settings: told.update(settings) or fake)
    first = WeightsAndBiases(project="x", entity=None, mode=before)
    first.start(tmp_path, "mine", "", [], CONFIG, None)
    second = WeightsAndBiases(project="x", entity=None, mode=now)
    second.start(tmp_path, "mine", "", [], CONFIG, History(64, [{"images_seen": 64, "fd": 1.0}], [], {"WeightsAndBiases": first.memory}))
    assert (told["id"], told["mode"], told.get("resume")) == ("same", now, "allow" if now == "online" else None)
    assert rows == ([{"images_seen": 64, "fd": 1.0}] if replayed else [])


def test_wandb_receives_the_very_pixels(run: Path) -> None:
    media = sorted((run / "wandb").glob("offline-run-*/files/media/images/samples_*.png"), key=lambda path: int(path.name.split("_")[1]))
    grids = sorted((run / "samples").glob("0*.png"))
    assert len(media) == len(grids) == 3
    for one, other in zip(media, grids, strict=True):
        pixels = np.asarray(Image.open(one))
        assert np.array_equal(pixels, np.asarray(Image.open(other)))
        assert pixels.std() > 0  # neither black nor white


def test_every_row_has_its_images_seen(run: Path) -> None:
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["images_seen"] for row in rows] == ["80", "160"]
    assert all(0 <= float(row["accuracy"]) <= 1 for row in rows)


def test_the_run_folder_keeps_one_row_per_moment_and_widens(tmp_path: Path) -> None:
    record = RunFolder(tmp_path)
    record.log_metrics({"loss": 1.0}, 10)
    record.log_metrics({"loss": 2.0}, 20)
    record.log_metrics({"fd": 3.0}, 20)
    record.log_metrics({"loss": 4.0}, 30)
    with (tmp_path / "metrics.csv").open() as file:
        assert list(csv.reader(file)) == [["images_seen", "loss", "fd"], ["10", "1.0", ""], ["20", "2.0", "3.0"], ["30", "4.0", ""]]


def test_the_summary_is_json_whatever_happened(tmp_path: Path) -> None:
    record = RunFolder(tmp_path)
    record.summarize({"status": "running", "fd": float("nan")})
    record.summarize({"status": "failed"})
    assert json.loads((tmp_path / "summary.json").read_text()) == {"status": "failed", "fd": "nan"}


def history(offline: Path) -> list[dict[str, Any]]:
    """The rows of an offline run as W&B's own tool reads them."""
    command = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json", str(offline)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [record for record in map(json.loads, lines) if record["type"] == "history"]


def test_a_run_that_goes_on_is_the_same_wandb_run_and_its_last_folder_is_whole(tmp_path: Path) -> None:
    settings = [
        "model=gan",
        *SMALL,
        *WIDTHS["gan"],
        "logger=wandb",
        "callbacks.scalars.every_iterations=5",
        "callbacks.samples.every_images=80",
        "run=run",
    ]
    for images in (160, 320):
        finished = commands.run("train.py", *settings, f"budget.images={images}", "resume=auto", folder=tmp_path)
        assert finished.code == 0, finished.errors
    first, second = sorted((tmp_path / "run" / "wandb").glob("offline-run-*"))
    assert first.name.split("-")[-1] == second.name.split("-")[-1]
    moments = [row["history"]["item"]["images_seen"] for row in history(second)]
    assert sorted(set(moments)) == moments
    assert {0, 80, 160, 240, 320} <= set(moments)
    assert len(list((second / "files" / "media" / "images").glob("samples_*.png"))) == 5


def test_tensorboard_forgets_what_will_be_logged_again(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = [
        "model=gan",
        *SMALL,
        *WIDTHS["gan"],
        "logger=tensorboard",
        "callbacks.scalars.every_iterations=5",
        "checkpoint.every_images=80",
        "run=run",
    ]
    for images in (160, 320):
        if images == 320:  # as if it had been killed before the last save
            for path in (tmp_path / "run" / "checkpoints").glob("00000160*"):
                path.unlink()
        assert commands.run("train.py", *settings, f"budget.images={images}", "resume=auto", folder=tmp_path).code == 0
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("accuracy")] == [80, 160, 240, 320]


def test_a_run_goes_on_without_wandb(tmp_path: Path) -> None:
    end = "+callbacks.end={_target_:helpers.interruption_callbacks.EndWandb,iteration:4}"
    settings = ["model=gan", *SMALL, *WIDTHS["gan"], "logger=wandb", "callbacks.scalars.every_iterations=1", "budget.images=160", "run=run"]
    finished = commands.run("train.py", *settings, end, folder=tmp_path, timeout=100)
    assert finished.code == 0, finished.errors
    assert "W&B has ended" in finished.output
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "finished"


class Upload:
    """Stands in for an online W&B run."""

    def __init__(self, folder: Path) -> None:
        self.artifacts: list[wandb.Artifact] = []
        self.codes: list[int] = []
        self.dir = str(folder)

    def log_artifact(self, artifact: wandb.Artifact) -> None:
        self.artifacts.append(artifact)

    def finish(self, exit_code: int) -> None:
        self.codes.append(exit_code)


@pytest.mark.parametrize(("mode", "status", "stored"), [("online", "success", 1), ("online", "failed", 0), ("offline", "success", 0)])
def test_the_best_checkpoint_is_an_artifact_of_a_finished_online_run(
    mode: Literal["online", "offline"], status: str, stored: int, tmp_path: Path
) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "files").mkdir()
    (tmp_path / "train.log").write_text("seen")
    for name in ("00000032-0123456789abcdef.ckpt", "best-00000016-0123456789abcdef.ckpt"):
        (tmp_path / "checkpoints" / name).write_text(name)
    logger, upload = WeightsAndBiases(project="x", entity=None, mode=mode), Upload(tmp_path / "files")
    logger.run, logger._id, logger._folder = upload, "abc", tmp_path
    logger.finalize(status)
    assert upload.codes == [int(status != "success")]
    assert (tmp_path / "files" / "train.log").read_text() == "seen"
    assert [[*artifact.manifest.entries] for artifact in upload.artifacts] == [["best-00000016-0123456789abcdef.ckpt"]] * stored
