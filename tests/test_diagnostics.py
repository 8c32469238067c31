"""The diagnostics sheet, of one run and of several, and `src/plot.py`; the way of both players."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.commands import run
from helpers.games import CPU, SMALL, WIDTHS, small
from twoplayer.callbacks.diagnostics import sheet
from twoplayer.game.build import build_game
from twoplayer.models.gan import Generator
from twoplayer.tricks.trajectory import Trajectory

ROWS: list[dict[str, Any]] = [
    {
        "images_seen": 1000 * step,
        "loss/discriminator": 1.3,
        "loss/generator": 0.7 + step,
        "accuracy/pairs": 0.8,
        "fd_validation": 100.0 / step,
        "penalty/r1": 0.1,
        "referee/shift": 0.1,
        **{f"referee/logits/{side}_{share}": float(share) / 100 for side in ("train", "held_out", "samples") for share in (10, 50, 90)},
        **{f"referee/classes/{number}": 0.25 for number in range(4)},
    }
    for step in range(1, 9)
]
SUMMARY: dict[str, Any] = {
    "scores": {"fd": {"value": 12.5, "better": "lower", "floor": 4.0}},
    "referee": {"findings": [{"rule": "mode_collapse", "first_images": 3000}]},
}


def inks(picture: Image.Image) -> np.ndarray[Any, Any]:
    return np.asarray(picture.convert("RGB")).astype(int)


def red(picture: Image.Image) -> int:
    pixels = inks(picture)
    return int(((pixels[..., 0] > 200) & (pixels[..., 1] < 90) & (pixels[..., 2] < 90)).sum())


def test_a_sheet_has_a_panel_for_each_thing_that_was_logged_and_marks_findings() -> None:
    whole = sheet({"": ROWS}, {"": SUMMARY})
    few = sheet({"": [{"images_seen": 1000, "loss/generator": 1.0}]}, {"": {}})
    assert whole.height > few.height
    without = sheet({"": ROWS}, {"": {"scores": SUMMARY["scores"]}})
    assert red(whole) > red(without) + 50


def test_several_runs_lie_over_each_other_and_numbers_that_are_not_finite_do_not_stop_it() -> None:
    other = [{**row, "loss/generator": float("nan"), "fd_validation": "nan"} for row in ROWS]
    assert sheet({"one": ROWS, "other": other}, {"one": SUMMARY, "other": {}}).width > 500
    assert sheet({"": []}, {"": {}}).width > 0


@pytest.mark.process
def test_a_run_draws_its_sheet_and_the_command_draws_it_again(tmp_path: Path) -> None:
    chosen = [word for word in SMALL if word != "~callbacks.diagnostics"]
    for name in ("one", "other"):
        settings = [*chosen, "model=gan", *WIDTHS["gan"], "referee.every_images=64", "referee.num_samples=16", "budget.images=320"]
        assert run("train.py", *settings, f"loss={'hinge' if name == 'one' else 'minimax'}", f"run={name}", folder=tmp_path).code == 0
        assert (tmp_path / name / "diagnostics.png").exists()
    (tmp_path / "one" / "diagnostics.png").unlink()
    assert run("plot.py", "run=one", folder=tmp_path).output.strip() == "one/diagnostics.png"
    finished = run("plot.py", "run=[one,other]", "output=both.png", folder=tmp_path)
    assert finished.output.strip() == "both.png"
    with Image.open(tmp_path / "both.png") as both:
        assert both.width > 500
    refused = run("plot.py", "run=none", folder=tmp_path)
    assert refused.code == 2
    assert "run=none: there is no run here" in refused.errors
    summary = json.loads((tmp_path / "one" / "summary.json").read_text())
    (tmp_path / "one" / "summary.json").write_text(json.dumps(summary | {"images_seen": 64}))
    before = (tmp_path / "both.png").read_bytes()
    assert run("plot.py", "run=[one,other]", "output=again.png", folder=tmp_path).code == 0
    assert (tmp_path / "again.png").read_bytes() == before, "a resumed run says how far it is only at its end"


def test_a_trajectory_keeps_the_last_places_in_order() -> None:
    game = build_game(small("trick=[trajectory]", "trick.trajectory.updates=4", model="gan"), CPU)
    trick = game.tricks.chosen["trajectory"]
    assert isinstance(trick, Trajectory)
    assert trick.pictures(None) == {}  # type: ignore[arg-type]
    generator = game.model.generator
    assert isinstance(generator, Generator)
    bias = generator.output.bias
    for step in range(6):
        with torch.no_grad():
            bias[-1] = step
        trick.after_generator(generator)
    assert trick.way[:, 0].tolist() == [4, 5, 2, 3]
    assert int(trick.count) == 6
    assert trick.pictures(None)["trajectory"].images.shape[1] == 3  # type: ignore[arg-type]


def test_a_trajectory_shows_a_weight_of_d_that_another_trick_has_wrapped() -> None:
    game = build_game(small("trick=[trajectory,spectral_norm]", model="gan"), CPU)
    trick, output = game.tricks.chosen["trajectory"], game.model.discriminator.output
    assert isinstance(trick, Trajectory)
    assert trick._watched[1] is output.parametrizations.weight.original  # type: ignore[union-attr]
