"""Multiruns, with Hydra's own sweeper and with another (hydra_plugins/three_points.py)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import commands
from helpers.games import PROJECT, SMALL, WIDTHS

pytestmark = pytest.mark.process

TINY = ["model=gan", *SMALL, *WIDTHS["gan"], "budget.images=64"]
OTHER = ["-m", "hydra/sweeper=three_points", *TINY, "sweep=here"]
RATES = "optimizer.generator.lr=interval(1e-4,1e-2)"


def returned(output: str) -> list[float | None]:
    """What the sweeper was told."""
    values: list[float | None] = json.loads(output.rpartition("returned ")[2].splitlines()[0])
    return values


def test_another_sweeper_is_told_the_final_validation_score(tmp_path: Path) -> None:
    finished = commands.run("train.py", *OTHER, "+metric.brightness._target_=helpers.synthetic.Brightness", RATES, folder=tmp_path)
    assert finished.code == 0, finished.errors
    summaries = [json.loads((tmp_path / "here" / f"{job}_gan_non_saturating_plain_s0" / "summary.json").read_text()) for job in range(3)]
    assert returned(finished.output) == [summary["scores"]["brightness"]["validation"] for summary in summaries]
    assert len(set(returned(finished.output))) == 3
    assert [line for line in finished.output.splitlines() if line.startswith("job ")][1].startswith("job 2: model=gan")
    again = commands.run(
        "train.py", *OTHER, "+metric.brightness._target_=helpers.synthetic.Brightness", RATES, "resume=auto", folder=tmp_path
    )
    assert returned(again.output) == returned(finished.output)  # of runs that were at their end


def test_without_scores_there_is_nothing_to_minimize(tmp_path: Path) -> None:
    finished = commands.run("train.py", *OTHER, RATES, folder=tmp_path)
    assert returned(finished.output) == [None, None, None]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["loss=hing"], "did you mean hinge?"),
        (["seed=-1"], "seed=-1: must be"),
        (["optimizer.generator.lr=interval(0,1)"], "optimizer.generator.lr=0.0: must be greater than 0"),
        (["hydra.sweeper.three=3"], "three"),
        (["init_from=nothing"], "there is no checkpoint"),
        (["resume=x.ckpt"], "a checkpoint belongs to one run"),
    ],
)
def test_a_mistake_that_all_jobs_share_is_told_before_the_first(words: list[str], message: str, tmp_path: Path) -> None:
    finished = commands.run("train.py", *OTHER, *words, folder=tmp_path)
    assert finished.code == 2, finished
    assert len(finished.errors.strip().splitlines()) == 1
    assert finished.errors.startswith("error: ")
    assert message in finished.errors
    assert not list(tmp_path.iterdir())


def test_a_mistake_of_one_job_is_told_when_it_begins(tmp_path: Path) -> None:
    finished = commands.run("train.py", *OTHER, "optimizer.generator.lr=interval(1e-3,-1)", folder=tmp_path)
    assert finished.code == 2
    assert "Traceback" not in finished.errors
    assert finished.errors.count("error: optimizer.generator.lr=-0.499") == 1
    statuses = [path.parent.name[0] for path in (tmp_path / "here").glob("*/summary.json")]
    assert statuses == ["0"]


def test_the_jobs_of_a_search_are_checked_before_the_first(tmp_path: Path) -> None:
    (tmp_path / "conf" / "search").mkdir(parents=True)
    (tmp_path / "conf" / "search" / "mine.yaml").write_text("# @package _global_\nhydra:\n  sweeper:\n    params:\n      seed: 0,-1\n")
    finished = commands.run("train.py", "-m", "--config-dir=conf", *TINY, "+search=mine", folder=tmp_path)
    assert finished.code == 2
    assert finished.errors.startswith("error: seed=-1: must be")
    assert [path.name for path in tmp_path.iterdir()] == ["conf"]


def test_each_job_is_announced_and_the_comparison_offered(tmp_path: Path) -> None:
    finished = commands.run("train.py", "-m", *TINY, "loss=hinge,minimax", "sweep=here", folder=tmp_path)
    assert finished.code == 0, finished.errors
    lines = finished.output.splitlines()
    jobs = [line for line in lines if line.startswith("job ")]
    assert [line.split(":")[0] for line in jobs] == ["job 1 of 2", "job 2 of 2"]
    assert jobs[1].endswith("loss=minimax")
    assert "HYDRA" not in finished.output
    assert "Launching" not in finished.output
    assert (tmp_path / "here" / "leaderboard.md").read_text().count("| `loss=") == 2
    table = next(index for index, line in enumerate(lines) if line.split() == ["status", "speed"])
    assert {line.split()[0] for line in lines[table + 1 : table + 3]} == {"loss=hinge", "loss=minimax"}
    assert lines[-3] == "next"
    assert [line.partition("src/")[2] for line in lines[-2:]] == [
        f"{script}.py runs=here baseline=hinge" for script in ("compare", "report")
    ]
    assert sum(line == "next" for line in lines) == 1
    assert jobs[1] in (tmp_path / "here" / "1_gan_minimax_plain_s0" / "train.log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_jobs_run_at_once_by_another_launcher(launcher: str, tmp_path: Path) -> None:
    """With `uv run --extra parallel pytest -m slow`."""
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.removesuffix('_local')}_launcher")
    words = ["-m", f"hydra/launcher={launcher}", *TINY, "seed=0,1", "sweep=here"]
    command = [sys.executable, str(PROJECT / "src" / "train.py"), *words]
    environment = os.environ | {"PYTHONPATH": str(PROJECT / "tests"), "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    summaries = [json.loads(path.read_text()) for path in (tmp_path / "here").glob("*/summary.json")]
    assert sorted((summary["seed"], summary["status"]) for summary in summaries) == [(0, "finished"), (1, "finished")]
    assert " 2 " in (tmp_path / "here" / "leaderboard.md").read_text()
    if launcher == "joblib":
        ends = [line[:3] for line in finished.stdout.splitlines() if "images seen" in line]
        assert sorted(ends) == ["[1]", "[2]"]
