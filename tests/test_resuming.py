"""A resumed run ends with the same state as an uninterrupted one."""

import csv
import json
import random
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from omegaconf import OmegaConf

from helpers import commands
from helpers.games import LOSS_SETTINGS, LOSSES, SEED, SMALL, TOGETHER, WIDTHS, Record, choices, play, small, state_sha256
from twoplayer.errors import ConfigurationError, DataError
from twoplayer.paths import CONF
from twoplayer.runs.plan import differences, plan_run
from twoplayer.storage import checkpoints, lock

pytestmark = pytest.mark.process

BATCH = 16
END = 30  # iterations: two and a half epochs of the made-up data
SHORT = [
    "trick.pretrain_discriminator.images=64",
    "trick.discriminator_steps.steps=3",
    "trick.r1.every_updates=4",
    "trick.instance_noise.fade_images=400",
    "trick.schedule.end_images=400",
]
ALL_TRICKS = f"trick=[{','.join(TOGETHER)}]"
OTHER_LOSSES = {"wgan_gp": "loss=wasserstein"}


def settings(trick: str) -> list[str]:
    """A trick with its moments inside the few images of a test."""
    return [
        f"trick=[{trick}]",
        OTHER_LOSSES.get(trick, "loss=non_saturating"),
        *(short for short in SHORT if short.startswith(f"trick.{trick}.")),
    ]


YAMLS = {
    **{f"loss/{name}": [f"loss={name}", *LOSS_SETTINGS.get(name, [])] for name in LOSSES},
    **{f"trick/{name}": settings(name) for name in choices("trick")},
}
EVERYTHING = [ALL_TRICKS, *SHORT, "loss=non_saturating"]
OTHERWISE = {f"trick/{name}" for name in TOGETHER}  # which are resumed below, all in one run


def each_yaml() -> list[Any]:
    """The names in YAMLS; slow are those that other tests of the process tier resume, too."""
    recipes = "".join(path.read_text() for path in (CONF / "experiment").glob("*.yaml"))
    tried = OTHERWISE | {f"loss/{name}" for name in re.findall(r"override /loss: (\w+)", recipes)}
    return [pytest.param(name, marks=pytest.mark.slow if name in tried else ()) for name in YAMLS]


def interrupted(folder: Path, stop: int, end: int, *overrides: str, model: str = "gan") -> list[dict[str, int]]:
    """A run that ends after `stop` iterations and resumes to `end`; the second part's segments."""
    play(folder, *overrides, f"budget.images={stop * BATCH}", model=model)
    summary = play(folder, *overrides, f"budget.images={end * BATCH}", "resume=auto", model=model)
    segments: list[dict[str, int]] = summary["segments"]
    return segments


@pytest.mark.parametrize("name", each_yaml())
def test_every_loss_and_trick_resumes_exactly(name: str, tmp_path: Path) -> None:
    play(tmp_path / "whole", *YAMLS[name], f"budget.images={17 * BATCH}")
    segments = interrupted(tmp_path / "parts", 7, 17, *YAMLS[name])
    assert segments == [{"resumed_from": 0, "trained": 7 * BATCH}, {"resumed_from": 7 * BATCH, "trained": 10 * BATCH}]
    assert state_sha256(tmp_path / "parts") == state_sha256(tmp_path / "whole")


@pytest.mark.parametrize("points", [4, pytest.param(END - 1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("model", ["dcgan", "gan"])
def test_a_run_resumes_exactly_from_any_iteration(points: int, model: str, tmp_path: Path, record: Record) -> None:
    settings = [*EVERYTHING, f"budget.images={END * BATCH}", f"checkpoint.every_images={BATCH}", f"checkpoint.keep={END}"]
    play(tmp_path / "whole", *settings, model=model)
    expected = state_sha256(tmp_path / "whole")
    held = 0
    for stop in sorted(random.Random(SEED).sample(range(1, END), points)):
        folder = tmp_path / f"parts{stop}"
        (saved,) = (tmp_path / "whole" / "checkpoints").glob(f"{stop * BATCH:08}*")
        assert play(folder, *settings, f"resume={saved}", model=model)["resumed_from"] == stop * BATCH
        held += state_sha256(folder) == expected
        shutil.rmtree(folder)
    record("P1", f"save points of {model} with every trick", points, held)
    assert held == points


def test_several_resumes_are_exact(tmp_path: Path) -> None:
    play(tmp_path / "whole", *EVERYTHING, f"budget.images={END * BATCH}")
    for stop in (5, 6, 13, END):
        play(tmp_path / "parts", *EVERYTHING, f"budget.images={stop * BATCH}", "resume=auto")
    assert state_sha256(tmp_path / "parts") == state_sha256(tmp_path / "whole")


def test_metrics_and_grids_have_no_gaps_or_duplicates_after_a_kill(tmp_path: Path) -> None:
    often = ["callbacks.scalars.every_iterations=3", "callbacks.samples.every_images=64", "callbacks.samples.first_images=32"]
    play(tmp_path / "whole", *EVERYTHING, *often, f"budget.images={END * BATCH}")
    # As a killed process leaves it: a checkpoint, later rows and grids, the last row cut short.
    play(tmp_path / "parts", *EVERYTHING, *often, f"budget.images={11 * BATCH}")
    (saved,) = (tmp_path / "parts" / "checkpoints").glob("0*")
    shutil.copy2(saved, tmp_path / saved.name)
    play(tmp_path / "parts", *EVERYTHING, *often, f"budget.images={20 * BATCH}", "resume=auto")
    shutil.rmtree(tmp_path / "parts" / "checkpoints")
    (tmp_path / "parts" / "checkpoints").mkdir()
    shutil.copy2(tmp_path / saved.name, saved)
    text = (tmp_path / "parts" / "metrics.csv").read_text()
    (tmp_path / "parts" / "metrics.csv").write_text(text[:-30])
    play(tmp_path / "parts", *EVERYTHING, *often, f"budget.images={END * BATCH}", "resume=auto")

    def rows(name: str) -> list[dict[str, str]]:
        with (tmp_path / name / "metrics.csv").open() as file:
            return [{key: cell for key, cell in row.items() if key != "images_per_second_now" and cell} for row in csv.DictReader(file)]

    parts = {row["images_seen"]: row for row in rows("parts")}
    assert len(parts) == len(rows("parts"))
    for row in rows("whole"):
        assert parts.pop(row["images_seen"]) == row
    assert set(parts) == {str(11 * BATCH)}  # the last row of the first part, which ended there
    grids = {path.name for path in (tmp_path / "whole" / "samples").glob("0*")}
    assert grids <= {path.name for path in (tmp_path / "parts" / "samples").glob("0*")}
    for name in grids:
        assert (tmp_path / "parts" / "samples" / name).read_bytes() == (tmp_path / "whole" / "samples" / name).read_bytes()


def test_a_larger_budget_extends_a_finished_run_and_the_same_budget_does_nothing(tmp_path: Path) -> None:
    play(tmp_path / "run", "budget.images=64")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.name != ".lock"}
    assert play(tmp_path / "run", "budget.images=64", "resume=auto")["segments"] == [{"resumed_from": 0, "trained": 64}]
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.name != ".lock"}
    summary = play(tmp_path / "run", "budget.images=96", "resume=auto")
    assert summary["segments"] == [{"resumed_from": 0, "trained": 64}, {"resumed_from": 64, "trained": 32}]
    assert summary["resumed_from"] == 64
    play(tmp_path / "whole", "budget.images=96")
    assert state_sha256(tmp_path / "run") == state_sha256(tmp_path / "whole")


def test_a_run_that_lacks_only_its_end_trains_no_further_iteration(tmp_path: Path) -> None:
    play(tmp_path / "run", "budget.images=64")
    expected = state_sha256(tmp_path / "run")
    summary_file = tmp_path / "run" / "summary.json"
    summary_file.write_text(summary_file.read_text().replace('"finished"', '"running"'))
    summary = play(tmp_path / "run", "budget.images=64", "resume=auto")
    assert summary["status"] == "finished"
    assert summary["images_seen"] == 64
    assert state_sha256(tmp_path / "run") == expected


def test_resume_auto_starts_a_new_run_in_an_empty_folder(tmp_path: Path) -> None:
    assert play(tmp_path / "run", "budget.images=32", "resume=auto")["resumed_from"] == 0
    assert (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("seed=1", "seed is 1, was 0"),
        ("loss=hinge", "loss is hinge, was non_saturating"),
        ("data.batch_size=32", "data.batch_size is 32, was 16"),
        ("trick=[ema]", "trick.ema"),
        ("optimizer.generator.lr=0.1", "optimizer.generator.lr is 0.1"),
        ("callbacks.scalars.every_iterations=7", "callbacks.scalars.every_iterations is 7"),
        ("data.num_images=100", "data.num_images is 100, was None"),
    ],
)
def test_changed_settings_are_refused_on_resume(change: str, message: str, tmp_path: Path) -> None:
    play(tmp_path / "run", "budget.images=32")
    with pytest.raises(ConfigurationError, match="a resumed run must match the saved one") as refusal:
        play(tmp_path / "run", "budget.images=64", change, "resume=auto")
    assert message in str(refusal.value)
    assert "init_from=" in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("part", ["data_sha256", "versions", "computed"])
def test_changed_data_versions_or_device_are_refused_on_resume(part: str, tmp_path: Path) -> None:
    play(tmp_path / "run", "budget.images=32")
    path, checkpoint = checkpoints.newest(tmp_path / "run") or pytest.fail("nothing saved")
    values = {
        "data_sha256": "0" * 64,
        "versions": {**checkpoint["run"]["versions"], "torch": "1.0"},
        "computed": {"device": "cuda", "precision": "fp32"},
    }
    messages = {
        "data_sha256": "the training images differ",
        "versions": r"torch is .*, was 1\.0",
        "computed": "device is cpu, was cuda",
    }
    checkpoint["run"][part] = values[part]
    checkpoints.DurableCheckpoints().save_checkpoint(checkpoint, path.with_name("00000032.ckpt"))
    path.unlink()
    with pytest.raises(ConfigurationError, match=messages[part]):
        play(tmp_path / "run", "budget.images=64", "resume=auto")


def test_budget_logger_and_debug_may_change_on_resume(tmp_path: Path) -> None:
    play(tmp_path / "run", "budget.images=32")
    free = [
        "budget.images=64",
        "budget.seconds=1000",
        "checkpoint.every_seconds=7",
        "logger=csv",
        "debug=true",
        "callbacks.progress.seconds_between_lines=3",
    ]
    assert play(tmp_path / "run", *free, "resume=auto")["resumed_from"] == 32


def test_an_older_checkpoint_resumes_only_in_another_folder(tmp_path: Path) -> None:
    play(tmp_path / "run", "budget.images=32")
    play(tmp_path / "run", "budget.images=64", "resume=auto")
    older, newer = sorted((tmp_path / "run" / "checkpoints").glob("0*"))
    with pytest.raises(ConfigurationError, match="is newer and would be lost"):
        play(tmp_path / "run", "budget.images=96", f"resume='{older}'")
    summary = play(tmp_path / "branch", "budget.images=96", f"resume='{older}'")
    assert summary["segments"] == [{"resumed_from": 0, "trained": 32}, {"resumed_from": 32, "trained": 64}]
    play(tmp_path / "run", "budget.images=96", f"resume='{newer}'")
    assert state_sha256(tmp_path / "branch") == state_sha256(tmp_path / "run")
    assert [path.name for path in sorted((tmp_path / "branch" / "samples").glob("0*"))] == ["00000000.png", "00000032.png", "00000096.png"]
    with (tmp_path / "branch" / "metrics.csv").open() as file:
        assert [row["images_seen"] for row in csv.DictReader(file)] == ["32", "96"]
    with pytest.raises(ConfigurationError, match="this folder already contains a run"):
        play(tmp_path / "branch", "budget.images=96", f"resume='{newer}'")
    with pytest.raises(ConfigurationError, match="there is no such file"):
        play(tmp_path / "new", "resume=nothing.ckpt")


def test_the_two_newest_checkpoints_and_the_best_are_kept(tmp_path: Path) -> None:
    play(tmp_path / "run", "budget.images=160", "checkpoint.every_images=32")
    assert [path.name[:8] for path in sorted((tmp_path / "run" / "checkpoints").iterdir())] == ["00000128", "00000160"]
    first = next((tmp_path / "run" / "checkpoints").glob("00000128*"))
    checkpoints.keep(tmp_path / "run", first)
    play(tmp_path / "run", "budget.images=256", "checkpoint.every_images=32", "resume=auto")
    names = [path.name.rpartition("-")[0] for path in sorted((tmp_path / "run" / "checkpoints").iterdir())]
    assert names == ["00000224", "00000256", "best-00000128"]


def test_init_from_loads_the_weights_of_another_run(tmp_path: Path) -> None:
    play(tmp_path / "one", "budget.images=64", "trick=[ema]")
    _, saved = checkpoints.newest(tmp_path / "one") or pytest.fail("nothing saved")
    still = ["optimizer.generator.lr=1e-30", "optimizer.discriminator.lr=1e-30", "budget.images=16"]
    for tricks in ("[]", "[ema,r1]"):
        folder = tmp_path / f"two{tricks}"
        summary = play(folder, f"init_from='{tmp_path / 'one'}'", f"trick={tricks}", "loss=hinge", "seed=5", *still)
        assert summary["resumed_from"] == 0
        _, begun = checkpoints.newest(folder) or pytest.fail("nothing saved")
        for name, tensor in saved["state_dict"].items():
            if name.startswith("model."):
                assert torch.allclose(begun["state_dict"][name], tensor, atol=1e-6), name
                if "ema" in tricks and name.startswith("model.generator."):
                    average = begun["state_dict"][name.replace("model.generator.", "tricks.chosen.ema.generator.")]
                    assert torch.allclose(average, tensor, atol=1e-6), name
    for change, message in {
        "model.generator.widths=[8,8]": r"\(model.generator.widths=\[16, 32, 64\] there, \[8, 8\] here\)",
        "trick=[minibatch_discrimination]": r"\(trick=\[ema\] there, trick=\[minibatch_discrimination\] here\)",
    }.items():
        with pytest.raises(ConfigurationError, match=f"init_from=.*: the weights there are of another model {message}; choose"):
            play(tmp_path / "three", f"init_from='{tmp_path / 'one'}'", change)
    with pytest.raises(ConfigurationError, match=r"of another model \(model=gan there, model=dcgan here\); choose"):
        play(tmp_path / "three", f"init_from='{tmp_path / 'one'}'", model="dcgan")
    with pytest.raises(ConfigurationError, match="there is no checkpoint"):
        play(tmp_path / "four", f"init_from='{tmp_path / 'four'}'")


def test_init_from_with_resume_auto_loads_the_weights_only_once(tmp_path: Path) -> None:
    play(tmp_path / "one", "budget.images=64")
    again = [f"init_from='{tmp_path / 'one'}'", "resume=auto"]
    assert play(tmp_path / "two", "budget.images=32", *again)["resumed_from"] == 0
    assert play(tmp_path / "two", "budget.images=64", *again)["resumed_from"] == 32


def test_broken_checkpoints_do_not_start_a_new_run(tmp_path: Path) -> None:
    play(tmp_path / "run", "budget.images=32")
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="none of the 1 checkpoints is intact"):
        play(tmp_path / "run", "budget.images=64", "resume=auto")
    with pytest.raises(DataError, match=r"is corrupt: .*; set run=<its run folder> resume=auto, which takes the newest intact checkpoint"):
        play(tmp_path / "new", "budget.images=64", f"resume='{path}'")
    with pytest.raises(DataError, match=r"is corrupt: .*; name its run folder instead, which takes the newest intact checkpoint"):
        play(tmp_path / "new", "budget.images=64", f"init_from='{path}'")


def test_differences_name_choices_and_settings() -> None:
    losses: list[dict[str, Any]] = [
        {"loss": {"_target_": f"twoplayer.losses.{name}.Loss", own: 1}, "optimizer": {"_target_": f"torch.optim.{optimizer}"}}
        for name, own, optimizer in (("mmd", "scale", "Adam"), ("hinge", "margin", "SGD"))
    ]
    assert differences(*losses) == ["loss is hinge, was mmd", "optimizer is SGD, was Adam"]
    one, other = ({"loss": {"margin": margin}, "budget": {"images": margin}, "run": str(margin), "trick": {}} for margin in (1, 2))
    assert differences(one, other) == ["loss.margin is 2, was 1"]
    assert differences({"trick": {}}, {"trick": {"ema": {"half_life_images": 3}}}) == [
        "trick is absent, was {}",
        "trick.ema.half_life_images is 3, was absent",
    ]
    config = OmegaConf.to_container(small(), resolve=False)
    assert isinstance(config, dict)
    assert differences(config, config) == []  # type: ignore[arg-type]


def test_a_killed_segment_ends_at_its_last_checkpoint(tmp_path: Path) -> None:
    play(tmp_path / "run", "budget.images=160", "checkpoint.every_images=48")
    last = next((tmp_path / "run" / "checkpoints").glob("00000160*"))
    last.unlink()  # as if it had been killed before the end
    summary_file = tmp_path / "run" / "summary.json"
    summary = json.loads(summary_file.read_text())
    summary_file.write_text(json.dumps({**summary, "status": "running"}))
    segments = play(tmp_path / "run", "budget.images=160", "checkpoint.every_images=48", "resume=auto")["segments"]
    assert segments == [{"resumed_from": 0, "trained": 144}, {"resumed_from": 144, "trained": 16}]


def mark_interrupted(run: Path) -> None:
    """As a run is that was ended before its budget was spent."""
    file = run / "summary.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "status": "interrupted"}))


def test_resume_auto_without_a_folder_takes_the_newest_unfinished_run_of_this_configuration(tmp_path: Path) -> None:
    settings = ["model=gan", *SMALL, *WIDTHS["gan"], "resume=auto"]
    for loss in ("hinge", "minimax"):
        assert commands.run("train.py", *settings, f"loss={loss}", "budget.images=32", folder=tmp_path).code == 0
    (run,) = tmp_path.glob("outputs/*/*hinge*")
    mark_interrupted(run)
    assert commands.run("export.py", f"run='{run}'", "onnx=false", folder=tmp_path).code == 0
    (tmp_path / "outputs" / "torn").mkdir()
    for name in ("config.yaml", "summary.json"):
        (tmp_path / "outputs" / "torn" / name).write_text("{")
    finished = commands.run("train.py", *settings, "loss=hinge", "budget.images=64", folder=tmp_path)
    assert finished.code == 0, finished.errors
    assert json.loads((run / "summary.json").read_text())["resumed_from"] == 32
    assert len(list(tmp_path.glob("outputs/*/*/summary.json"))) == 2
    nothing = commands.run("train.py", *settings, "loss=relativistic", "budget.images=32", folder=tmp_path)
    assert nothing.code == 0, nothing.errors
    assert "nothing to resume in" in nothing.output


def test_resume_auto_without_a_folder_skips_finished_runs_and_jobs_of_sweeps(tmp_path: Path) -> None:
    settings = ["model=gan", *SMALL, *WIDTHS["gan"]]
    assert commands.run("train.py", *settings, "budget.images=32", folder=tmp_path).code == 0
    (single,) = tmp_path.glob("outputs/*/*_s0")
    assert commands.run("train.py", "-m", *settings, "budget.images=32", "seed=0,1", folder=tmp_path).code == 0
    (job,) = tmp_path.glob("outputs/*/*_sweep/0_*")
    mark_interrupted(job)
    before = {run: (run / "summary.json").read_bytes() for run in (single, job)}
    finished = commands.run("train.py", *settings, "budget.images=64", "resume=auto", folder=tmp_path)
    assert finished.code == 0, finished.errors
    assert {run: (run / "summary.json").read_bytes() for run in before} == before
    assert f"{single.relative_to(tmp_path)} is finished: starting a new run" in finished.output
    assert len(list(tmp_path.glob("outputs/*/*_s0/summary.json"))) == 2
    named = commands.run("train.py", *settings, "budget.images=64", "resume=auto", f"run='{single}'", folder=tmp_path)
    assert named.code == 0, named.errors
    assert json.loads((single / "summary.json").read_text())["resumed_from"] == 32


def test_resume_auto_without_a_folder_skips_a_run_of_another_process(tmp_path: Path) -> None:
    settings = ["model=gan", *SMALL, *WIDTHS["gan"], "budget.images=32"]
    assert commands.run("train.py", *settings, folder=tmp_path).code == 0
    (run,) = tmp_path.glob("outputs/*/*_s0")
    mark_interrupted(run)
    time.sleep(1)  # folders are named by seconds
    with FileLock(run / lock.FILE):
        finished = commands.run("train.py", *settings, "resume=auto", folder=tmp_path)
    assert finished.code == 0, finished.errors
    assert len(list(tmp_path.glob("outputs/*/*_s0"))) == 2


def test_a_spent_budget_is_refused(tmp_path: Path) -> None:
    play(tmp_path / "run", "budget.images=320")
    mark_interrupted(tmp_path / "run")
    with pytest.raises(ConfigurationError, match=r"budget.images=64: the run in .* has seen 320 images already; set a larger budget"):
        play(tmp_path / "run", "budget.images=64", "resume=auto")
    assert play(tmp_path / "run", "budget.images=320", "resume=auto")["status"] == "finished"


def test_a_resumed_run_keeps_its_scores_until_it_has_new_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail = "+callbacks.fail={_target_:helpers.rank_callbacks.Fail}"
    play(tmp_path / "run", "budget.images=64", fail)
    file = tmp_path / "run" / "summary.json"
    scores = {"fd": {"value": 12.5, "validation": 13.5, "floor": 4.0, "untrained": 900.0}}
    file.write_text(json.dumps({**json.loads(file.read_text()), "scores": scores}))
    monkeypatch.setenv("FAIL_ON_LOSS", "NonSaturating")
    with pytest.raises(RuntimeError, match="fails on purpose"):
        play(tmp_path / "run", "budget.images=96", "resume=auto", fail)
    summary = json.loads(file.read_text())
    assert summary["status"] == "failed"
    assert summary["scores"] == scores


def test_a_checkpoint_outside_a_run_needs_a_folder(tmp_path: Path) -> None:
    play(tmp_path / "run", "budget.images=32")
    (saved,) = (tmp_path / "run" / "checkpoints").iterdir()
    shutil.copy2(saved, tmp_path / "mine.ckpt")
    with pytest.raises(ConfigurationError, match="is not in a run folder"):
        plan_run(small(f"resume='{tmp_path / 'mine.ckpt'}'", model="gan"))
    assert play(tmp_path / "new", "budget.images=64", f"resume='{tmp_path / 'mine.ckpt'}'")["resumed_from"] == 32
