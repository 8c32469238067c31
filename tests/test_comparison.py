"""Runs side by side, from what they say of themselves."""

import csv
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

import twoplayer
from helpers.games import play
from twoplayer.commands import leaderboard
from twoplayer.commands.compare import write_table
from twoplayer.commands.rows import Row, Run, boards, find
from twoplayer.errors import ConfigurationError
from twoplayer.metrics.intervals import interquartile_mean, probability_of_improvement
from twoplayer.pictures import GAP


def fd(value: float | None, **others: Any) -> dict[str, Any]:
    """What a run records of a score."""
    return {"value": value, "better": "lower", "floor": 4.0, **others}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two runs, with scores put into their summaries."""
    for name, score in (("hinge", 20.0), ("minimax", 10.0)):
        folder = tmp_path / "sweep" / name
        play(folder, f"loss={name}", "budget.images=32")
        (folder / ".hydra").mkdir()
        (folder / ".hydra" / "overrides.yaml").write_text(f"- loss={name}\n- data.batch_size=16\n- sweep=x\n")
        summary = json.loads((folder / "summary.json").read_text())
        (folder / "summary.json").write_text(json.dumps(summary | {"scores": {"fd": fd(score)}, "images_per_second": 10 * score}))
    return tmp_path / "sweep"


def test_a_table_has_the_best_first_and_names_what_differs(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    write_table(runs=str(sweep), baseline="loss=hinge", costs=False, into=None, name="runs")
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:4] == ["| `loss=minimax` | 10.0 | 2.5 | 0.50 |  |", "| `loss=hinge` | 20.0 | 5.0 | 1.00 |  |"]
    assert lines[-1].startswith("32 images, seed 0, cpu, 1 threads, fp32; a speed of 1 is 200 images a second; the floor is 4.00.")


def test_costs_are_columns_of_their_own(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = sweep / "hinge" / "summary.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"images_seen": 120_000, "seconds": 90.0}))
    capsys.readouterr()
    write_table(runs=str(sweep), baseline=None, costs=True, into=None, name="runs")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "|  | `fd` | times its floor | images | minutes | images/s |  |"
    assert lines[3] == "| `loss=hinge` | 20.0 | 5.0 | 120,000 | 1.5 | 200 |  |"
    assert lines[-1].startswith("seed 0, cpu")


def test_without_a_baseline_there_are_no_speeds(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    write_table(runs=str(sweep), baseline=None, costs=False, into=None, name="runs")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["|  | `fd` | times its floor |  |", "| --- | --- | --- | --- |", "| `loss=minimax` | 10.0 | 2.5 |  |"]
    assert "speed" not in lines[-1]


def test_a_table_goes_where_it_is_marked_with_pictures(sweep: Path, tmp_path: Path) -> None:
    file = tmp_path / "docs" / "results.md"
    file.parent.mkdir()
    file.write_text("above\n<!-- losses -->\nold\n<!-- /losses -->\nbelow\n")
    for _ in range(2):
        write_table(runs=[str(sweep / "hinge"), str(sweep / "minimax")], baseline=None, costs=False, into=str(file), name="losses")
    text = file.read_text()
    assert text.startswith("above\n<!-- losses -->\n| ")
    assert text.endswith("<!-- /losses -->\nbelow\n")
    assert "old" not in text
    assert text.count('<img src="losses/loss_hinge.png"') == 1
    with Image.open(tmp_path / "docs" / "losses" / "loss_hinge.png") as picture:
        assert picture.width == pytest.approx(4 * picture.height, rel=0.05)


def test_a_picture_of_few_samples_is_theirs_alone(tmp_path: Path) -> None:
    play(tmp_path / "run", "budget.images=32", "callbacks.samples.num=5")
    file = tmp_path / "results.md"
    file.write_text("<!-- runs -->\n<!-- /runs -->\n")
    write_table(runs=str(tmp_path / "run"), baseline=None, costs=False, into=str(file), name="runs")
    (path,) = (tmp_path / "runs").glob("*.png")
    with Image.open(path) as picture, Image.open(tmp_path / "run" / "samples" / "00000032.png") as grid:
        assert picture.size == (grid.width // 2, grid.height // 2)


def test_a_picture_shows_two_whole_rows_of_any_width(tmp_path: Path) -> None:
    play(tmp_path / "run", "budget.images=32", "callbacks.samples.columns=5")
    file = tmp_path / "results.md"
    file.write_text("<!-- runs -->\n<!-- /runs -->\n")
    write_table(runs=str(tmp_path / "run"), baseline=None, costs=False, into=str(file), name="runs")
    (path,) = (tmp_path / "runs").glob("*.png")
    with Image.open(path) as picture, Image.open(tmp_path / "run" / "samples" / "00000032.png") as grid:
        row = (grid.height - GAP) // 4  # of 16 samples, five in a row
        assert picture.size == (grid.width // 2, row)


def test_a_run_without_a_score_says_how_it_ended(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = sweep / "hinge" / "summary.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"scores": {"fd": fd(None)}, "status": "failed"}))
    capsys.readouterr()
    write_table(runs=str(sweep), baseline=None, costs=False, into=None, name="runs")
    assert "| `loss=hinge` | failed |  |  |" in capsys.readouterr().out


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    """Two losses with three seeds each, of which one run failed."""
    play(tmp_path / "one", "budget.images=32")
    summary = json.loads((tmp_path / "one" / "summary.json").read_text())
    scores = {("hinge", 0): 20.0, ("hinge", 1): 30.0, ("hinge", 2): 40.0, ("minimax", 0): 10.0, ("minimax", 1): 12.0, ("minimax", 2): None}
    for (loss, seed), value in scores.items():
        folder = tmp_path / "sweep" / f"{loss}{seed}"
        (folder / ".hydra").mkdir(parents=True)
        (folder / "config.yaml").write_text((tmp_path / "one" / "config.yaml").read_text())
        (folder / ".hydra" / "overrides.yaml").write_text(f"- loss={loss}\n- seed={seed}\n")
        status = "failed" if value is None else "finished"
        mine = {"scores": {"fd": fd(value, untrained=90.0)}, "seed": seed, "status": status, "images_per_second": 100.0}
        (folder / "summary.json").write_text(json.dumps(summary | mine))
    return tmp_path / "sweep"


def test_runs_that_differ_by_their_seeds_are_one_row_and_none_is_dropped(seeds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    write_table(runs=str(seeds), baseline="hinge", costs=False, into=None, name="runs")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "|  | `fd` | times its floor | seeds | speed | difference | better with probability |  |"
    assert lines[2].startswith("| `loss=hinge` | 30.0 [20.0, 40.0] | 7.5 | 3 | 1.00 |  |  |")
    # The failed run counts as untrained, so (10 + 12 + 90) / 3; it is paired with its own seed.
    assert lines[3] == "| `loss=minimax` | 37.3 [10.0, 90.0] | 9.3 | 3, 1 failed | 1.00 | 7.33 [-85.0, 99.7] | 0.67 |  |"
    assert " ".join(lines[-2:]).endswith(
        "an unfinished run counts as untrained; difference: mean over paired seeds, 95 % interval of Student's t."
    )


def test_a_table_of_several_seeds_has_a_picture_of_the_intervals(seeds: Path, tmp_path: Path) -> None:
    file = tmp_path / "results.md"
    file.write_text("<!-- runs -->\n<!-- /runs -->\n")
    write_table(runs=str(seeds), baseline="hinge", costs=False, into=str(file), name="runs")
    assert "](runs/intervals.png)\n\n|  | `fd`" in file.read_text()
    with Image.open(tmp_path / "runs" / "intervals.png") as picture:
        assert picture.width == 800


def test_runs_on_other_data_or_of_other_lengths_are_in_other_tables(seeds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, change in (("hinge0", {"budget": {"images": 64}}), ("minimax0", {"data": {"classes": [3]}})):
        file = seeds / name / "config.yaml"
        OmegaConf.save(OmegaConf.merge(OmegaConf.load(file), change), file)
    capsys.readouterr()
    write_table(runs=str(seeds), baseline=None, costs=False, into=None, name="runs")
    text = capsys.readouterr().out
    assert [line for line in text.splitlines() if line.startswith("**")] == [
        "**data.classes=null, budget.images=64**",
        "**data.classes=null, budget.images=32**",
        "**data.classes=[3], budget.images=32**",
    ]
    assert text.count("| --- |") >= 3
    write_table(runs=str(seeds), baseline=None, costs=True, into=None, name="runs")
    assert capsys.readouterr().out.count("**data.classes") == 2, "with costs, lengths may differ"


def test_a_run_that_was_rolled_back_counts_once_with_its_last_part(seeds: Path) -> None:
    first, last = seeds / "hinge0", seeds / "hinge0_rollback1"
    shutil.copytree(first, last)
    shutil.rmtree(last / ".hydra")
    for folder, more in ((first, {"rolled_back": {"folder": str(last)}}), (last, {"rollback": {"from": str(first)}})):
        summary = json.loads((folder / "summary.json").read_text())
        (folder / "summary.json").write_text(json.dumps(summary | more))
    OmegaConf.save(OmegaConf.merge(OmegaConf.load(last / "config.yaml"), {"budget": {"images": 7}}), last / "config.yaml")
    found = find([str(seeds)])
    assert len(found) == 6
    assert [run.folder.name for run in found if run.overrides == ("loss=hinge",)] == ["hinge0_rollback1", "hinge1", "hinge2"]
    assert len({(run.data, run.length) for run in found}) == 1
    assert [run.folder for run in find([str(first)])] == [first]


def test_a_configuration_is_read_and_nothing_in_it_is_imported(seeds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (seeds.parent / "strange.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(seeds.parent))
    for run in seeds.iterdir():
        text = (run / "config.yaml").read_text()
        (run / "config.yaml").write_text(text.replace("helpers.synthetic.Shapes", "strange.Anything"))
    assert len(leaderboard.write(seeds)) == 1
    assert "strange" not in sys.modules


def test_a_leaderboard_holds_each_seed(seeds: Path) -> None:
    leaderboard.show(leaderboard.write(seeds))
    heads = "|  | `fd` | times its floor | seeds | speed | difference | better with probability |\n"
    assert (seeds / "leaderboard.md").read_text().startswith(heads)
    with (seeds / "leaderboard.csv").open() as file:
        rows = {row["row"]: row for row in csv.DictReader(file)}
    assert json.loads(rows["loss=minimax"]["values"]) == [10.0, 12.0, 90.0]
    assert (rows["loss=minimax"]["seeds"], rows["loss=minimax"]["finished"], rows["loss=minimax"]["failed"]) == ("3", "2", "1")
    assert (rows["loss=minimax"]["baseline"], rows["loss=minimax"]["probability_of_improvement"]) == ("loss=hinge", str(2 / 3))
    assert float(rows["loss=minimax"]["difference"]) == pytest.approx(22 / 3)
    assert float(rows["loss=minimax"]["difference_high"]) == pytest.approx(99.7, abs=0.1)
    assert float(rows["loss=minimax"]["images_per_second"]) == 100
    assert float(rows["loss=hinge"]["low"]) == 20.0
    assert leaderboard.write(seeds / "nothing") == []


def test_a_row_that_has_failed_as_a_whole_counts_as_untrained(seeds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        file = seeds / f"minimax{seed}" / "summary.json"
        summary = json.loads(file.read_text()) | {"status": "failed", "scores": {}}
        file.write_text(json.dumps(summary))
    summary = json.loads((seeds / "hinge0" / "summary.json").read_text())
    (seeds / "hinge0" / "summary.json").write_text(json.dumps(summary | {"status": "interrupted"}))  # extended: its score is older
    capsys.readouterr()
    write_table(runs=str(seeds), baseline="hinge", costs=False, into=None, name="runs")
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| `loss=hinge` | 53.3 [30.0, 90.0] | 13.3 | 3, 1 interrupted | 1.00 |  |  |")
    assert lines[3].startswith("| `loss=minimax` | 90.0 [90.0, 90.0] | 22.5 | 3, 3 failed | 1.00 | 36.7 [-")
    leaderboard.write(seeds)
    with (seeds / "leaderboard.csv").open() as file_:
        assert [row["row"] for row in csv.DictReader(file_)] == ["loss=hinge", "loss=minimax"]


def test_a_single_run_that_has_stopped_shows_how_and_is_the_last(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, status, value in (("hinge", "interrupted", 5.0), ("minimax", "finished", 10.0)):
        file = sweep / name / "summary.json"
        scores = {"scores": {"fd": fd(value, untrained=90.0)}, "status": status}
        file.write_text(json.dumps(json.loads(file.read_text()) | scores))
    (sweep / "early").mkdir()
    (sweep / "early" / "config.yaml").write_text((sweep / "hinge" / "config.yaml").read_text())
    (sweep / "early" / "summary.json").write_text(
        json.dumps({"status": "failed", "seed": 0, "overrides": ["loss=energy", "data.batch_size=16"]})
    )
    capsys.readouterr()
    write_table(runs=str(sweep), baseline=None, costs=False, into=None, name="runs")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1:4] for line in lines[2:5]] == [
        [" `loss=minimax` ", " 10.0 ", " 2.5 "],
        [" `loss=energy` ", " failed ", "  "],
        [" `loss=hinge` ", " interrupted ", "  "],
    ]
    assert lines[-1].startswith("32 images, seed 0, cpu, 1 threads, fp32; the floor")


def test_a_sweep_of_a_grid_has_no_likely_baseline(seeds: Path) -> None:
    rows = [[Row(f"loss={loss} lr={rate}", []) for loss in ("hinge", "minimax") for rate in (1, 2)]]
    assert leaderboard.likely_baseline(rows) is None
    assert leaderboard.likely_baseline([[Row("loss=hinge", []), Row("loss=minimax", [])]]) == "hinge"
    assert leaderboard.likely_baseline([[Row("loss=hinge", [])]]) is None


def test_runs_of_other_budgets_are_no_seeds_of_one_row(seeds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("hinge1", "hinge2"):
        file = seeds / name / "config.yaml"
        OmegaConf.save(OmegaConf.merge(OmegaConf.load(file), {"budget": {"seconds": 60.0}}), file)
    capsys.readouterr()
    write_table(runs=str(seeds), baseline=None, costs=False, into=None, name="runs")
    headings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("**")]
    assert headings == ["**budget.seconds=null**", "**budget.seconds=60.0**"]
    write_table(runs=str(seeds), baseline=None, costs=True, into=None, name="runs")
    text = capsys.readouterr().out
    assert "| `loss=hinge budget.seconds=null` | 20.0 | 5.0 | 1 |" in text
    assert "| `loss=hinge budget.seconds=60.0` | 35.0 [30.0, 40.0] |" in text


def test_the_interquartile_mean_leaves_out_the_outer_quarters() -> None:
    assert interquartile_mean([1.0, 2.0, 3.0, 1000.0]).value == 2.5
    assert interquartile_mean([5.0]).interval is None
    assert interquartile_mean([5.0, 1.0, 3.0]) == (3.0, (1.0, 5.0))
    draw = np.random.default_rng(1)
    held = 0
    for _ in range(200):  # the interval of 20 values of a normal distribution holds its middle about 19 times in 20
        low, high = interquartile_mean(list(draw.normal(size=20))).interval or (0, 0)
        held += low < 0 < high
    assert 0.87 < held / 200 < 0.99
    assert probability_of_improvement([1.0, 2.0], [2.0, 3.0]) == pytest.approx(3.5 / 4)


def test_what_is_not_there_is_told(sweep: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no run here"):
        write_table(runs=str(tmp_path), baseline=None, costs=False, into=None, name="runs")
    with pytest.raises(ConfigurationError, match="baseline=x: there is no such row; available: loss=hinge, loss=minimax"):
        write_table(runs=str(sweep), baseline="x", costs=False, into=None, name="runs")
    with pytest.raises(ConfigurationError, match="put the lines <!-- runs --> and <!-- /runs -->"):
        write_table(runs=str(sweep), baseline=None, costs=False, into=str(tmp_path / "empty.md"), name="runs")


def test_a_table_sorts_in_the_direction_of_its_first_score(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in (("hinge", 0.25), ("minimax", 0.5)):
        file = sweep / name / "summary.json"
        precision = {"value": value, "better": "higher", "floor": 0.8}
        file.write_text(json.dumps(json.loads(file.read_text()) | {"scores": {"precision": precision, "fd": fd(20.0)}}))
    capsys.readouterr()
    write_table(runs=str(sweep), baseline=None, costs=False, into=None, name="runs")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "|  | `precision` | times its ceiling | `fd` |  |"
    assert lines[2:4] == ["| `loss=minimax` | 0.500 | 0.62 | 20.0 |  |", "| `loss=hinge` | 0.250 | 0.31 | 20.0 |  |"]
    assert lines[-1].endswith("; the ceiling of precision is 0.800; the floor of fd is 4.00.")


def test_scores_of_other_protocols_are_refused(sweep: Path) -> None:
    for name, num_samples, weights in (("hinge", 10_000, "raw"), ("minimax", 10_000, "averaged")):
        file = sweep / name / "summary.json"
        protocol = {"num_samples": num_samples, "weights": weights}
        file.write_text(json.dumps(json.loads(file.read_text()) | {"scores": {"fd": fd(20.0, protocol=protocol)}}))
    write_table(runs=str(sweep), baseline=None, costs=False, into=None, name="runs")
    file.write_text(file.read_text().replace("10000", "500"))
    with pytest.raises(ConfigurationError, match="the fd of loss=minimax is not comparable with that of loss=hinge: num_samples is 500"):
        write_table(runs=str(sweep), baseline=None, costs=False, into=None, name="runs")


def test_runs_without_a_command_are_told_apart_by_what_they_say_or_by_their_settings(sweep: Path) -> None:
    """As a notebook makes them."""
    for name in ("hinge", "minimax"):
        shutil.rmtree(sweep / name / ".hydra")
    for told in (True, False):
        for name in ("hinge", "minimax"):
            summary = json.loads((sweep / name / "summary.json").read_text())
            more = {"overrides": [f"loss={name}", "seed=0", "budget.images=32"]} if told else {}
            summary.pop("overrides", None)
            (sweep / name / "summary.json").write_text(json.dumps(summary | more))
        ((_, rows),) = boards(find(str(sweep)))
        titles = [row.title for row in rows]
        assert titles == (
            ["loss=hinge", "loss=minimax"]
            if told
            else [f"loss._target_=twoplayer.losses.{name}" for name in ("hinge.Hinge", "minimax.Minimax")]
        )


def test_a_table_of_one_row_is_named_by_what_other_tables_do_not_share() -> None:
    words = [
        ("data=ring", "trick=[]", "logger=none"),
        ("data=ring", "trick=[packing]", "logger=none"),
        ("data=grid", "trick=[]", "logger=none"),
    ]
    found = boards([Run(Path(str(number)), each, each, None, (each[0],), (), {}) for number, each in enumerate(words)])
    assert [(title, [row.title for row in rows]) for title, rows in found] == [
        ("data=ring", ["trick=[]", "trick=[packing]"]),
        ("data=grid", ["data=grid trick=[]"]),
    ]


def test_rows_of_one_name_in_two_tables_have_pictures_of_their_own(sweep: Path, tmp_path: Path) -> None:
    file = sweep / "minimax" / "config.yaml"
    OmegaConf.save(OmegaConf.merge(OmegaConf.load(file), {"data": {"classes": [3]}}), file)
    for name in ("hinge", "minimax"):
        (sweep / name / ".hydra" / "overrides.yaml").write_text("- loss=hinge\n")
    page = tmp_path / "results.md"
    page.write_text("<!-- runs -->\n<!-- /runs -->\n")
    write_table(runs=[str(sweep / "hinge"), str(sweep / "minimax")], baseline=None, costs=False, into=str(page), name="runs")
    shown = re.findall('src="(.*?)"', page.read_text())
    assert len(shown) == len(set(shown)) == 2
    assert all((tmp_path / path).is_file() for path in shown)


def test_a_picture_of_points_is_shown_as_a_whole(tmp_path: Path) -> None:
    points = ("data=ring", "metric=none", "~callbacks.diagnostics", "model.generator.widths=[8]", "model.discriminator.widths=[8]")
    twoplayer.GAN(*points, model="mlp", tricks=[]).fit(num_images=512, folder=tmp_path / "run")
    page = tmp_path / "results.md"
    page.write_text("<!-- runs -->\n<!-- /runs -->\n")
    write_table(runs=str(tmp_path / "run"), baseline=None, costs=False, into=str(page), name="runs")
    (path,) = (tmp_path / "runs").glob("*.png")
    with Image.open(path) as picture, Image.open(tmp_path / "run" / "samples" / "00000512.png") as whole:
        assert picture.size == (whole.width // 2, whole.height // 2)
