"""The benchmarks themselves are run by hand; what they draw and divide by is tried here."""

from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure

from helpers.games import PROJECT, small
from twoplayer.game.build import build_game
from twoplayer.game.engine import Precision


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PROJECT / "benchmarks"))


def test_the_legend_of_the_plot_lies_on_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import quality

    drawn: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *arguments: Any, **settings: Any) -> None:
        drawn.append(figure)
        save(figure, *arguments, **settings)

    monkeypatch.setattr(Figure, "savefig", keep)
    curve = [{"images": 1.0, "seconds": seconds, "fd_validation": score} for seconds, score in ((10.0, 900.0), (1000.0, 20.0))]
    quality.draw([curve, curve], [curve] * 5, 4.07, tmp_path / "plot.png")
    (figure,) = drawn
    (axes,) = figure.axes
    (legend,) = [*figure.legends, *filter(None, [axes.get_legend()])]
    box = legend.get_window_extent()
    assert not box.overlaps(axes.get_window_extent())
    assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
    assert box.y1 <= figure.bbox.y1


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_efficiency_is_against_a_product_in_the_precision_that_is_run(
    precision: Precision, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import run

    games, products = [], []
    build, randn = build_game, torch.randn

    def built(*arguments: Any) -> Any:
        games.append(build(*arguments))
        return games[-1]

    def drawn(*shape: int, **settings: Any) -> torch.Tensor:
        if shape == (64, 64):
            products.append(settings["dtype"])
        return randn(*shape, **settings)

    peak, iterations = run.peak, run.iterations
    monkeypatch.setattr(run, "resolve_precision", lambda name, device: precision)
    monkeypatch.setattr(run, "compose_run", lambda model, *settings: small(*settings, model=model.removeprefix("model=")))
    monkeypatch.setattr(run, "build_game", built)
    monkeypatch.setattr(run, "peak", lambda precision: peak(precision, size=64, repeats=1))
    monkeypatch.setattr(run, "REPEATS", 1)
    monkeypatch.setattr(run, "iterations", lambda game, config, num: iterations(game, config, min(num, 1)))
    monkeypatch.setattr(torch, "randn", drawn)
    found = run.efficiency()
    assert [game.precision for game in games] == [precision] * 2
    assert set(products) == {dtype}
    assert found["precision"] == precision
    run.show({"machine": {"processor": "", "threads": 1, "torch": ""}, "efficiency": found})
    assert f"efficiency precision │ {precision}" in " ".join(capsys.readouterr().out.split())
