"""The page about a sweep or a run: complete, self-contained, and made of what the runs say."""

import base64
import io
import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from PIL import Image

from helpers.games import play
from twoplayer.commands.report import write_report
from twoplayer.errors import ConfigurationError
from twoplayer.metrics import recorded


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two losses with two seeds each."""
    tmp_path = tmp_path_factory.mktemp("made")
    for loss, score in (("hinge", 20.0), ("minimax", 10.0)):
        for seed in (0, 1):
            folder = tmp_path / "sweep" / f"{loss}{seed}"
            play(folder, f"loss={loss}", f"seed={seed}", "budget.images=32", "callbacks.scalars.every_iterations=1")
            (folder / ".hydra").mkdir()
            (folder / ".hydra" / "overrides.yaml").write_text(f"- loss={loss}\n- seed={seed}\n")
            file = folder / "summary.json"
            summary = json.loads(file.read_text())
            summary["scores"] = {"fd": {"value": score + seed, "better": "lower", "floor": 4.0}}
            if loss == "hinge":
                finding = {"rule": "mode_collapse", "first_images": 1600, "says": "few <classes> are drawn", "try": ["python x"]}
                summary["referee"]["findings"] = [finding]
            file.write_text(json.dumps(summary))
            rows = (folder / "metrics.csv").read_text().splitlines()
            (folder / "metrics.csv").write_text("\n".join([rows[0] + ",fd_validation", *(f"{row},{score}" for row in rows[1:])]) + "\n")
    (tmp_path / "sweep" / "multirun.yaml").write_text("hydra:\n  overrides:\n    task: ['loss=hinge,minimax', 'seed=0,1', 'resume=auto']\n")
    return tmp_path / "sweep"


@pytest.fixture
def sweep(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(made, tmp_path / "sweep"))


def pictures(page: str) -> list[Image.Image]:
    return [Image.open(io.BytesIO(base64.b64decode(content))) for content in re.findall(r'src="data:image/\w+;base64,([^"]+)"', page)]


def test_the_page_of_a_sweep_has_all_and_needs_nothing_else(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    write_report(runs=str(sweep), baseline="hinge", title=None, output=None)
    assert capsys.readouterr().out.strip().endswith("report.html")
    page = (sweep / "report.html").read_text()
    assert "<h1>loss: hinge or minimax</h1>" in page
    assert "4 runs, 4 of them finished" in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "http" not in re.sub(r"data:[^\"]*", "", page)
    cells = [unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", page)]
    assert cells[0] == "loss=minimax", "the best is the first"
    assert "10.5 [10.0, 11.0]" in cells
    assert "-10.0 [-10.0, -10.0]" in cells
    assert "few <classes> are drawn. Try: python x" in cells
    assert "few <classes>" not in page, "what runs say is escaped"
    assert cells[-6:] == ["most rows", "loss=hinge.Hinge", "loss=hinge", "", "loss=minimax", "loss=minimax.Minimax"]
    assert "-m loss=hinge,minimax seed=0,1\n" in page
    found = pictures(page)
    assert len(found) == 2 + 1 + 4  # two plots, real images, and samples of each run
    assert len({picture.tobytes() for picture in found}) == len(found)


def test_the_page_of_one_run_has_its_pictures_and_settings(sweep: Path, tmp_path: Path) -> None:
    write_report(runs=str(sweep / "hinge0"), baseline=None, title="A <run>", output=str(tmp_path / "pages" / "one.html"))
    page = (tmp_path / "pages" / "one.html").read_text()
    assert "<h1>A &lt;run&gt;</h1>" in page
    assert "<h2>Progress</h2>" in page
    assert "<h2>Samples after 32 images</h2>" in page
    assert "<h2>A walk through the latents, along great circles</h2>" in page
    assert max(getattr(picture, "n_frames", 1) for picture in pictures(page)) > 20
    assert '<td>data.batch_size</td><td class="text">16</td>' in page
    assert len(pictures(page)) >= 3
    assert "src/train.py loss=hinge seed=0" in page


def test_the_command_of_a_run_has_all_that_was_asked(sweep: Path) -> None:
    asked = ["data.root=/somewhere", "budget.images=32", "loss=hinge", "run=a", "sweep=b", "resume=auto"]
    OmegaConf.save(asked, sweep / "hinge0" / ".hydra" / "overrides.yaml")
    write_report(runs=str(sweep / "hinge0"), baseline=None, title=None, output=None)
    assert "src/train.py data.root=/somewhere budget.images=32 loss=hinge seed=0\n" in (sweep / "hinge0" / "report.html").read_text()


def test_rows_of_one_name_in_two_tables_are_told_apart(sweep: Path) -> None:
    for name in ("minimax0", "minimax1"):
        file = sweep / name / "config.yaml"
        OmegaConf.save(OmegaConf.merge(OmegaConf.load(file), {"data": {"classes": [3]}}), file)
        OmegaConf.save(["loss=hinge", f"seed={name[-1]}"], sweep / name / ".hydra" / "overrides.yaml")
    write_report(runs=str(sweep), baseline=None, title=None, output=None)
    page = unescape((sweep / "report.html").read_text())
    titles = [f"data.classes={classes}: loss=hinge" for classes in ("null", "[3]")]
    assert all(f"{title}, seed 1, 32 images" in page for title in titles)
    cells = re.findall(r"<td[^>]*>(.*?)</td>", page.split("<h2>How the configurations differ")[1])
    assert cells == [
        "most rows",
        "data.classes=null   loss=hinge.Hinge",
        titles[0],
        "",
        titles[1],
        "data.classes=[3]   loss=minimax.Minimax",
    ]
    assert page.count("<figcaption>real images</figcaption>") == 2, "each data set has its own"


def test_a_run_that_got_worse_is_found(sweep: Path) -> None:
    file = sweep / "minimax0" / "summary.json"
    summary = json.loads(file.read_text())
    for better, validation, found in (("lower", 19.0, 0), ("lower", 21.0, 1), ("higher", 6.0, 0), ("higher", 4.0, 1)):
        score = {"value": 10.0, "better": better, "floor": 4.0, "best_validation": 10.0, "validation": validation}
        file.write_text(json.dumps(summary | {"scores": {"fd": score}}))
        write_report(runs=str(sweep / "minimax0"), baseline=None, title=None, output=None)
        page = (sweep / "minimax0" / "report.html").read_text()
        assert page.count("the run got worse: fd_validation was 10.0, and is ") == found, (better, validation)


def test_the_cost_of_a_study_includes_its_tuning(sweep: Path) -> None:
    folder = sweep / "tuning" / "hinge_faster_s100"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps({"seconds": 90.0}))
    write_report(runs=str(sweep), baseline=None, title=None, output=None)
    assert "minutes of training, and 1.5 minutes of tuning. " in (sweep / "report.html").read_text()


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
LOOK = """<script>addEventListener("load", () => {
  const images = [...document.images];
  document.title = JSON.stringify({
    loaded: images.filter(image => image.complete && image.naturalWidth).length, images: images.length,
    width: document.documentElement.scrollWidth, window: innerWidth });
});</script>"""


def in_browser(page: Path, *options: str) -> str:
    assert BROWSER is not None
    words = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", *options, page.as_uri()]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=100).stdout


@pytest.mark.process
@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_a_browser_shows_all_pictures_and_nothing_is_wider_than_a_phone(sweep: Path, tmp_path: Path) -> None:
    write_report(runs=str(sweep), baseline="hinge", title=None, output=None)
    page = tmp_path / "page.html"
    page.write_text((sweep / "report.html").read_text().replace("</body>", f"{LOOK}</body>"))
    for width in (500, 1400):  # Chromium's smallest window is 500 wide
        seen = json.loads(unescape(re.findall("<title>(.*?)</title>", in_browser(page, f"--window-size={width},900", "--dump-dom"))[0]))
        assert seen["loaded"] == seen["images"] == 7
        assert seen["width"] <= seen["window"] <= width
    in_browser(page, f"--print-to-pdf={tmp_path / 'page.pdf'}")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


def test_what_cannot_be_reported_is_told(sweep: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no run here"):
        write_report(runs=str(tmp_path), baseline=None, title=None, output=None)
    with pytest.raises(ConfigurationError, match="baseline=x: there is no such row; available: loss=hinge, loss=minimax"):
        write_report(runs=str(sweep), baseline="x", title=None, output=None)


def test_the_page_of_one_run_shows_what_only_its_model_has(tmp_path: Path) -> None:
    play(tmp_path / "run", "trick=[ema]", "budget.images=32", model="autoencoder")
    write_report(runs=str(tmp_path / "run"), baseline=None, title=None, output=None)
    page = (tmp_path / "run" / "report.html").read_text()
    measures = json.loads((tmp_path / "run" / "summary.json").read_text())["measures"]
    assert f"<td>psnr_test</td><td>{recorded.digits(measures['psnr_test'])}</td>" in page
    assert "psnr_validation" not in page
    assert {"<h2>Reconstructions</h2>", "<h2>Interpolations</h2>", "<h2>Codes on a plane</h2>"} <= set(re.findall("<h2>.*?</h2>", page))
    assert "over seeds" not in page
