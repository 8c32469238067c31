"""The benchmarks themselves are run by hand; what they draw and divide by is tried here."""

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from conftest import PROJECT


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
