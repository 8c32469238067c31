"""Fair comparisons: equal tuning, other seeds for the result, and nothing that is trained twice."""

import json
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from scipy import stats

from helpers import commands
from helpers.games import SMALL, choices, composed, play
from twoplayer.commands import jobs, study
from twoplayer.commands.compare import write_table
from twoplayer.commands.jobs import Job
from twoplayer.commands.report import write_report
from twoplayer.config.check import check_call
from twoplayer.errors import ConfigurationError, origin
from twoplayer.metrics.intervals import paired_differences
from twoplayer.overrides import merged
from twoplayer.settings import compose_config

TINY = [word for word in SMALL if not word.startswith("trick=")]
STUDY: dict[str, Any] = {
    "question": "Which is better?",
    "baseline": "hinge",
    "shared": ["trick=[]", "budget.images=32"],
    "arms": {"hinge": ["loss=hinge"], "minimax": ["loss=minimax"]},
    "tuning": {
        "choices": {"as_it_is": [], "slower": ["optimizer.generator.lr=1e-4"]},
        "own": {},
        "shared": ["budget.images=16"],
        "seeds": [100],
    },
    "seeds": [0, 1],
}


def run(sweep: Path, **changes: Any) -> None:
    """Run the study above, with changes."""
    config = OmegaConf.merge(
        STUDY, {"_target_": "twoplayer.commands.study.run_study", "jobs": 1, "only": None, "sweep": str(sweep)}, changes
    )
    assert isinstance(config, DictConfig)
    check_call(config)
    try:
        instantiate(config)
    except InstantiationException as error:
        raise origin(error) from None


MADE: dict[tuple[str, ...], Path] = {}
"""A run of each list of overrides."""


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> list[Job]:
    """Instead of starting processes, jobs are trained here; slower ones score worse.

    Runs that differ by seed and name alone are copies of one, since their scores are made up.
    """
    started: list[Job] = []

    def train(waiting: Sequence[Job], at_once: int, ended: Any) -> None:
        for job in waiting:
            if not job.finished():
                started.append(job)
                words = tuple(word for word in job.overrides if not word.startswith(("seed=", "name=")))
                if words not in MADE:
                    MADE[words] = tmp_path_factory.mktemp("made")
                    play(MADE[words], *words)
                shutil.copytree(MADE[words], job.folder, ignore=shutil.ignore_patterns(".lock*"))
                (job.folder / ".hydra").mkdir(exist_ok=True)
                OmegaConf.save(list(job.overrides), job.folder / ".hydra" / "overrides.yaml")
                file = job.folder / "summary.json"
                slow = "optimizer.generator.lr=1e-4" in job.overrides
                better = slow if "loss=minimax" in job.overrides else not slow
                value = 10.0 + 10 * (not better) + 5 * ("loss=minimax" in job.overrides) + len(started) / 100
                score = {"fd": {"value": value, "validation": value, "better": "lower", "floor": 4.0}}
                seed = int(next(word for word in job.overrides if word.startswith("seed=")).partition("=")[2])
                file.write_text(json.dumps(json.loads(file.read_text()) | {"scores": score, "seed": seed}))
                ended(job)

    monkeypatch.setattr(study, "run_jobs", train)
    monkeypatch.setattr(HydraConfig.instance(), "cfg", compose_config("study", "study=losses"))
    return started


def test_each_arm_tunes_alike_and_its_best_choice_is_trained_with_other_seeds(tmp_path: Path, trained: list[Job]) -> None:
    run(tmp_path / "sweep")
    assert [job.folder.relative_to(tmp_path / "sweep").as_posix() for job in trained] == [
        *(f"tuning/{arm}_{choice}_s100" for arm in ("hinge", "minimax") for choice in ("as_it_is", "slower")),
        *(f"{arm}_s{seed}" for seed in (0, 1) for arm in ("hinge", "minimax")),
    ]
    tuning, final = trained[:4], trained[4:]
    assert all("budget.images=16" in job.overrides and "seed=100" in job.overrides for job in tuning)
    assert all("budget.images=32" in job.overrides for job in final)
    assert ["optimizer.generator.lr=1e-4" in job.overrides for job in final] == [False, True, False, True]
    told = json.loads((tmp_path / "sweep" / "study.json").read_text())
    assert [arm["chosen"] for arm in told["arms"].values()] == ["as_it_is", "slower"]
    assert told["arms"]["hinge"]["choices"]["slower"]["cost"] == pytest.approx(20.02)
    assert "| `hinge` | as_it_is | as_it_is 10.0, slower 20.0 |" in (tmp_path / "sweep" / "tuning.md").read_text()
    lines = (tmp_path / "sweep" / "leaderboard.md").read_text().splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:4]] == ["`hinge`", "`minimax`"], "rows have the names of the arms"
    assert "| difference |" in lines[0]
    assert (tmp_path / "sweep" / "intervals.png").stat().st_size > 1000


def test_a_table_and_a_page_know_the_question_and_the_baseline(
    tmp_path: Path, trained: list[Job], capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path / "sweep")
    write_table(runs=str(tmp_path / "sweep"), baseline=None, costs=False, into=None, name="runs")
    assert "| difference | better with probability |" in capsys.readouterr().out
    write_report(runs=str(tmp_path / "sweep"), baseline=None, title=None, output=None)
    page = (tmp_path / "sweep" / "report.html").read_text()
    assert "<h1>Which is better?</h1>" in page
    assert "src/study.py study=losses" in page


def test_what_is_finished_is_not_trained_again_but_new_seeds_are(tmp_path: Path, trained: list[Job]) -> None:
    run(tmp_path / "sweep")
    del trained[:]
    run(tmp_path / "sweep", seeds=[0, 1, 2], only=["hinge"])
    assert [job.folder.name for job in trained] == ["hinge_s2"]
    done = trained[0]
    assert done.finished()
    assert not done._replace(overrides=(*done.overrides, "data.batch_size=8")).finished(), "another run"
    assert done._replace(overrides=(*done.overrides, "threads=3", "run=here")).finished(), "the same run"


def test_a_part_of_a_study_keeps_what_others_have_found(tmp_path: Path, trained: list[Job]) -> None:
    run(tmp_path / "sweep")
    before = json.loads((tmp_path / "sweep" / "study.json").read_text())
    run(tmp_path / "sweep", only=["hinge"])
    assert json.loads((tmp_path / "sweep" / "study.json").read_text()) == before | {
        "arms": {name: before["arms"][name] for name in ("minimax", "hinge")}
    }
    assert "| `minimax` | slower |" in (tmp_path / "sweep" / "tuning.md").read_text()


def test_arms_of_other_lengths_have_tables_and_pictures_of_their_own(tmp_path: Path, trained: list[Job]) -> None:
    run(tmp_path / "sweep", arms={"longer": ["loss=minimax", "budget.images=48"]})
    assert {path.name for path in (tmp_path / "sweep").glob("*.png")} == {"intervals.png", "intervals1.png"}


def test_a_choice_that_fails_is_not_chosen(tmp_path: Path, trained: list[Job], monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path / "sweep", only=["hinge"])
    file = tmp_path / "sweep" / "tuning" / "hinge_as_it_is_s100" / "summary.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"status": "failed"}))
    monkeypatch.setattr(study, "run_jobs", lambda *arguments: None)
    run(tmp_path / "sweep", only=["hinge"])
    assert json.loads((tmp_path / "sweep" / "study.json").read_text())["arms"]["hinge"]["chosen"] == "slower"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baseline": "hing"}, "baseline: hing is not a known arm; did you mean hinge?"),
        ({"only": ["minimax"]}, "the baseline hinge is missing"),
        ({"seeds": [100]}, "100 is used twice"),
        ({"seeds": [1, 1]}, "1 is used twice"),
        ({"seeds": []}, "seeds="),
        ({"jobs": 0}, "jobs=0"),
        ({"arms": {"hinge": "loss=hinge"}}, "arms.hinge=loss=hinge"),
        ({"arms": {"other": ["loss=hing"]}}, "arms.other, with as_it_is: loss=hing: hing is not a choice of loss; did you mean hinge?"),
        ({"arms": {"other": ["budget.images=-1"]}}, "budget.images=-1: must be greater than 0"),
        ({"arms": {"other": ["referee.act=rollback"]}}, "arms.other, with as_it_is: referee.act=rollback: runs that are compared get"),
        ({"tuning": {"own": {"x": {"a": []}}}}, "tuning.own.x: x is not a known arm"),
        ({"tuning": {"own": {"minimax": {"a": []}}}}, "this arm has 1 choices and hinge has 2"),
    ],
)
def test_what_cannot_be_compared_is_told_before_the_first_run(
    changes: dict[str, Any], message: str, tmp_path: Path, trained: list[Job]
) -> None:
    with pytest.raises(ConfigurationError) as told:
        run(tmp_path / "sweep", **changes)
    assert message in str(told.value)
    assert not trained
    assert not (tmp_path / "sweep").exists()


def test_later_overrides_replace_earlier_ones() -> None:
    assert merged(["trick=[ema]", "+x=1"], ["trick=[]"], ["seed=1", "x=2"]) == ("trick=[]", "x=2", "seed=1")


@pytest.mark.parametrize("share", [5, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", choices("study"))
def test_the_arms_and_choices_of_a_study_are_valid(name: str, share: int, monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose_config("study", f"study={name}")
    monkeypatch.setattr(HydraConfig.instance(), "cfg", config)
    check_call(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]))
    assert config.baseline in config.arms
    for arm, own in [*config.arms.items()][::share]:
        choices_of_its_own = [*(config.tuning.own.get(arm) or {}).values()]
        composed(*merged(config.shared, own, config.tuning.shared, *choices_of_its_own[-1:]))
    for choice in config.tuning.choices.values():
        composed(*merged(config.shared, config.arms[config.baseline], config.tuning.shared, choice))
    assert not {*config.seeds} & {*config.tuning.seeds}


def test_a_single_difference_has_the_interval_of_student() -> None:
    values = [1.0, 2.0, 4.0]
    (found,) = paired_differences([values])
    assert found is not None
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert found.interval == pytest.approx((expected.low, expected.high))
    assert paired_differences([[], [3.0]]) == [None, (3.0, None)]


def test_intervals_of_several_differences_agree_with_the_method_of_holm() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        groups = [list(random.normal(shift, 1.0, 4)) for shift in (0.0, 0.5, 2.0, 5.0)]
        chances = [float(stats.ttest_1samp(group, 0.0).pvalue) for group in groups]
        rejected = [False] * len(groups)
        for step, number in enumerate(np.argsort(chances)):
            if chances[number] > 0.05 / (len(groups) - step):
                break
            rejected[number] = True
        for estimate, is_rejected in zip(paired_differences(groups), rejected, strict=True):
            assert estimate is not None
            assert estimate.interval is not None
            assert (estimate.interval[0] > 0 or estimate.interval[1] < 0) == is_rejected


def test_equal_seeds_make_a_difference_certain() -> None:
    assert paired_differences([[2.0, 2.0], [0.0, 0.0]]) == [(2.0, (2.0, 2.0)), (0.0, (0.0, 0.0))]


@pytest.mark.process
def test_an_interrupted_study_goes_on_with_the_same_command(tmp_path: Path) -> None:
    (tmp_path / "conf" / "study").mkdir(parents=True)
    only_one = {"choices": {"as_it_is": []}, "own": {}, "shared": [], "seeds": [100]}
    shared = ["trick=[]", *TINY, "budget.images=1600000", "model.generator.width=4", "model.discriminator.width=4"]
    content = STUDY | {"shared": shared, "seeds": [0], "tuning": only_one}
    (tmp_path / "conf" / "study" / "mine.yaml").write_text(f"# @package _global_\n{OmegaConf.to_yaml(OmegaConf.create(content))}")
    words = ["--config-dir=conf", "study=mine", "sweep=here", "jobs=2"]
    running = commands.start("study.py", *words, folder=tmp_path)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len([*(tmp_path / "here").glob("*/metrics.csv")]) < 2:
        time.sleep(0.1)
    running.send(signal.SIGTERM)
    finished = running.finish()
    assert finished.code == 143, finished
    assert finished.errors == "the runs are saved; the same command goes on with them\n"
    summaries = [json.loads(path.read_text()) for path in sorted((tmp_path / "here").glob("*/summary.json"))]
    assert [summary["status"] for summary in summaries] == ["interrupted"] * 2
    seen = max(summary["images_seen"] for summary in summaries) + 32
    file = tmp_path / "conf" / "study" / "mine.yaml"
    file.write_text(file.read_text().replace("budget.images=1600000", f"budget.images={seen}"))
    finished = commands.run("study.py", *words, folder=tmp_path)
    assert finished.code == 0, finished
    assert "2 of 2  " in finished.output
    assert {line.split()[0] for line in finished.output.splitlines() if line.startswith(("hinge", "minimax"))} == {"hinge", "minimax"}


@pytest.mark.process
def test_a_job_that_cannot_run_ends_the_study_with_its_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(jobs.JobError, match="loss=hing: hing is not a choice of loss") as told:
        jobs.run_jobs([Job(tmp_path / "one", ("loss=hing",), tmp_path)], 1, lambda job: "")
    assert told.value.exit_code == 2
