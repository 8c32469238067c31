"""What a run prints: on a terminal, to a file and to train.log."""

import logging
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from helpers import commands
from helpers.games import PROJECT, SMALL, WIDTHS, small
from twoplayer.callbacks.progress import ProgressBar
from twoplayer.callbacks.stopwatch import Stopwatch
from twoplayer.config.schema import Budget
from twoplayer.paths import command, override, shown
from twoplayer.runs.console import conclude

pytestmark = pytest.mark.process

TINY = ["model=gan", *SMALL, *WIDTHS["gan"], "budget.images=64"]
SCORED = [*TINY, "+metric.brightness._target_=helpers.synthetic.Brightness", "callbacks.scalars.every_iterations=1"]


def without_torch(*arguments: str, folder: Path) -> str:
    """What a command prints in a Python that cannot import torch."""
    script = f"import sys, runpy; sys.modules['torch'] = None; sys.argv = {[str(PROJECT / 'src' / 'train.py'), *arguments]}; runpy.run_path(sys.argv[0], run_name='__main__')"
    return subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("arguments", [[], ["-m", "seed=0,1"]])
def test_the_first_line_is_printed_before_torch_is_imported(arguments: list[str], tmp_path: Path) -> None:
    assert without_torch(*arguments, folder=tmp_path) == "loading PyTorch ...\n"


@pytest.mark.parametrize("asked", [["--help"], ["--hydra-help"], ["--cfg", "job"], ["--info", "defaults"]])
def test_a_help_page_prints_nothing_else(asked: list[str], tmp_path: Path) -> None:
    page = without_torch(*asked, folder=tmp_path)
    assert len(page) > 100
    assert "loading" not in page


def test_each_phase_is_printed_and_the_end_lists_the_next_commands(tmp_path: Path) -> None:
    words = [*SCORED, "logger=wandb", "run=a b/mine", "callbacks.progress.seconds_between_lines=1e-6"]
    finished = subprocess.run(
        [sys.executable, str(PROJECT / "src" / "train.py"), *words[:-2], "run='a b/mine'", words[-1]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(PROJECT / "tests"), "MPLCONFIGDIR": str(tmp_path / "fonts"), "OMP_NUM_THREADS": "1"},
    )
    lines = finished.stdout.splitlines()
    expected = [
        r"loading PyTorch \.\.\.",
        r"loading the data \(synthetic\) \.\.\.",
        r"model gan .*",
        r"generator .* parameters, .* kFLOP/image; discriminator .*",
        r"on cpu.*",
        r"scoring the untrained generator \.\.\.",
        *[r" +\d+ of 64 images .* images/s .* s left  brightness_validation [\d,.]+ \([\d,.]+ x floor\) at 0  loss D .*"] * 3,
        r" +64 of 64 images .*",
        r"scoring \.\.\.",
        r"brightness, on the test split .* x its floor of .*, untrained .*",
        r"images seen             64   .* s, .* images/s",
        r"progress                a b/mine/samples/progress.png",
        r"run                     a b/mine",
        r"next",
        r"  python /.*/src/sample.py '?run=.*",
        r"  wandb leet 'a b/mine/wandb'",
        r"  python /.*/src/train.py .* resume=auto budget.images=128",
    ]
    assert len(lines) == len(expected), finished.stdout
    for line, pattern in zip(lines, expected, strict=True):
        assert re.fullmatch(pattern, line), (line, pattern)
    noted = (tmp_path / "a b" / "mine" / "train.log").read_text().splitlines()
    assert [line.split(": ", 1)[1] for line in noted] == lines[2:]
    for line in (lines[-3], lines[-1]):
        script, *arguments = shlex.split(line)[1:]
        result = commands.run(Path(script).name, *arguments, folder=tmp_path)
        assert result.code == 0, result.errors
    assert "images seen             128" in result.output


def test_the_progress_bar_ends_before_the_final_scores(tmp_path: Path) -> None:
    finished = commands.run("train.py", *SCORED, "run=here", folder=tmp_path, FORCE_COLOR="1", COLUMNS="80")
    assert finished.code == 0, finished.errors
    bar, _, rest = finished.output.rpartition("scoring ...")
    assert "64 of 64 images" in bar
    assert "brightness_validation" in bar
    assert "━" not in rest
    assert "of 64 images" not in (tmp_path / "here" / "train.log").read_text()


def test_an_error_is_written_to_train_log(tmp_path: Path) -> None:
    wrong = ["optimizer/player@optimizer.discriminator=sgd", "optimizer.discriminator.lr=1e30", "callbacks.scalars.every_iterations=2"]
    finished = commands.run("train.py", *TINY, *wrong, "run=here", folder=tmp_path)
    assert finished.code == 4
    assert finished.errors.strip() in (tmp_path / "here" / "train.log").read_text()
    assert "error" not in finished.output


def test_printed_paths_and_settings_can_be_pasted_into_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown(tmp_path / "a" / "b") == "a/b"
    assert shown(tmp_path.parent / "c") == str(tmp_path.parent / "c")
    assert override("run", Path("outputs/12-00-00_dcgan_ema+r1_s0")) == "run=outputs/12-00-00_dcgan_ema+r1_s0"
    assert shlex.split(command("sample", override("run", Path("it's a=b"))))[2:] == [r"run='it\'s a=b'"]


def test_the_time_left_follows_the_present_rate(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("twoplayer.callbacks.progress.time.perf_counter", lambda: now[0])
    stopwatch = Stopwatch(Budget(images=10_000, seconds=None))
    clock = SimpleNamespace(images_seen=0)
    trainer: Any = SimpleNamespace(is_global_zero=True, should_stop=False, callbacks=[stopwatch], callback_metrics={})
    bar = ProgressBar(seconds_between_lines=10)
    game: Any = SimpleNamespace(clock=clock)
    bar.on_train_start(trainer, game)
    stopwatch.on_train_batch_start(trainer, game, None, 0)
    with caplog.at_level(logging.INFO):
        for seconds in (*[1] * 20, 3600, *[1] * 19):  # suspended for an hour
            now[0] += seconds
            clock.images_seen += 100
            bar.on_train_batch_end(trainer, game, None, None, 0)
    assert [re.findall(r"(\S+) images/s  (\S+) s left", line) for line in caplog.messages][-1] == [("100", "69")]  # 3,100 of 10,000 images


@pytest.mark.parametrize("images_seen", [128, 256])
def test_a_run_that_was_better_before_its_end_says_so(images_seen: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "checkpoints").mkdir()
    best = tmp_path / "checkpoints" / "best-00000128-0123456789abcdef.ckpt"
    best.touch()
    plan: Any = SimpleNamespace(folder=tmp_path, in_sweep=True)
    scores = {"fd": {"value": 30.0, "validation": 31.0, "best_validation": 12.0, "better": "lower"}}
    with caplog.at_level(logging.INFO, logger="twoplayer"):
        conclude(small(), plan, {"scores": scores, "images_seen": images_seen, "seconds": 1.0, "images_per_second": 99.0})
    before = [line for line in caplog.messages if line.startswith("best before the end")]
    told = f"best before the end     fd_validation 12.0 after 128 images, 31.0 now; {command('sample', override('run', best))}"
    assert before == ([told] if images_seen == 256 else [])
