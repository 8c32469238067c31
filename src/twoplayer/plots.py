"""Drawings with axes, made by matplotlib, as Pillow images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

if TYPE_CHECKING:  # its import takes half a second
    from matplotlib.figure import Figure

REAL, FAKE, OUTPUT, OPTIMAL = "#444444", "#d95f02", "#1f78b4", "#33a02c"
"""Colours of real examples, of samples, of D's output and of the output that would be optimal."""

MAX_NAMED = 10
"""Classes that have a colour each, and a legend."""


def figure(width: float, height: float) -> Figure:
    """A figure of `width` x `height` hundred pixels."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=100, layout="constrained")


def drawn(figure: Figure) -> Image.Image:
    """The figure as a picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.frombuffer("RGBA", canvas.get_width_height(), bytes(canvas.buffer_rgba()), "raw", "RGBA", 0, 1).convert("RGB")


def plane(samples: Tensor, real: Tensor, limit: float, surface: Tensor | None) -> Image.Image:
    """Samples (N, 2) over real points (M, 2), within [-limit, limit] on both axes.

    `surface` (S, S) is D's output on a regular grid of these points; its rows run upward.
    """
    sheet = figure(4.2, 4.0)
    axes = sheet.subplots()
    if surface is not None:
        colours = axes.imshow(surface.numpy(), origin="lower", extent=(-limit, limit, -limit, limit), cmap="PuOr", alpha=0.75)
        sheet.colorbar(colours, ax=axes, shrink=0.8, label="D's output")
    axes.plot(*real.T.numpy(), ".", markersize=2, color=REAL, alpha=0.5, label="real")
    axes.plot(*samples.T.numpy(), ".", markersize=2, color=FAKE, alpha=0.5, label="samples")
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    axes.legend(loc="upper right", fontsize=7, markerscale=4)
    return drawn(sheet)


def scatter(samples: Tensor) -> Image.Image:
    """Samples (N, 2) as points."""
    sheet = figure(4.0, 4.0)
    axes = sheet.subplots()
    axes.plot(*samples.T.cpu().numpy(), ".", markersize=3, color=FAKE)
    axes.set_aspect("equal", "datalim")
    return drawn(sheet)


def codes_on_a_plane(codes: Tensor, labels: Tensor) -> Image.Image:
    """Codes (N, d) as points of the colours of their labels (N)."""
    places = principal_plane(codes.cpu())
    sheet = figure(5.0, 4.0)
    axes = sheet.subplots()
    found = labels.unique().tolist()
    for label in found:
        axes.plot(*places[labels.cpu() == label].T.numpy(), ".", markersize=2, alpha=0.6, label=str(label))
    if len(found) <= MAX_NAMED:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=5, fontsize=8, frameon=False)
    axes.set(xticks=[], yticks=[])
    return drawn(sheet)


def principal_plane(points: Tensor) -> Tensor:
    """Points (N, d) on the plane (N, 2) in which they vary most; not turned if d is at most 2."""
    centered = points.double() - points.double().mean(0)
    if (size := centered.shape[1]) <= 2:
        return pad(centered, (0, 2 - size))
    _, directions = torch.linalg.eigh(centered.T @ centered)  # in ascending order of variance
    return centered @ directions[:, -2:].flip(1)


def densities(places: Tensor, real: Tensor, fake: Tensor, output: Tensor | None) -> Image.Image:
    """The densities of real points and of samples at `places` (S), with D's output.

    The optimal output for these samples is p / (p + q) (Goodfellow et al., 2014, figure 1).
    """
    sheet = figure(4.8, 3.6)
    axes = sheet.subplots()
    x = places.numpy()
    axes.fill_between(x, real.numpy(), color=REAL, alpha=0.25, label="real, p(x)")
    axes.plot(x, fake.numpy(), color=FAKE, label="samples, q(x)")
    axes.plot(x, (real / (real + fake).clamp(min=1e-12)).numpy(), "--", color=OPTIMAL, label="p / (p + q)")
    if output is not None:
        axes.plot(x, output.numpy(), color=OUTPUT, label="D(x)")
    axes.set(xlabel="x", ylim=(0, max(1.05, 1.1 * float(real.max()))), xlim=(float(places[0]), float(places[-1])))
    axes.legend(fontsize=7, loc="upper right")
    return drawn(sheet)


def classes(real: Tensor, fake: Tensor) -> Image.Image:
    """The shares (K) of classes among real images and among samples."""
    sheet = figure(5.0, 3.0)
    axes = sheet.subplots()
    places = range(len(real))
    axes.bar([place - 0.2 for place in places], real.tolist(), 0.4, color=REAL, label="real")
    axes.bar([place + 0.2 for place in places], fake.tolist(), 0.4, color=FAKE, label="samples")
    axes.set(xlabel="class, by the classifier", ylabel="share")
    if len(real) <= 20:
        axes.set_xticks(list(places))
    axes.legend(fontsize=8)
    return drawn(sheet)


def way(steps: Tensor) -> Image.Image:
    """The way (N, 2) of one number of each player."""
    sheet = figure(4.0, 4.0)
    axes = sheet.subplots()
    axes.plot(*steps.T.numpy(), "-", color=OUTPUT, linewidth=0.8)
    axes.plot(*steps[:1].T.numpy(), "o", color=REAL, label="start")
    axes.plot(*steps[-1:].T.numpy(), "o", color=FAKE, label="end")
    axes.set(xlabel="G's number", ylabel="D's number")
    axes.set_aspect("equal", "datalim")
    axes.legend(fontsize=7, loc="upper right")
    return drawn(sheet)


def normal_density(points: Tensor, center: float, deviation: float) -> Tensor:
    """The density of a normal distribution at points (N)."""
    return ((points - center) / deviation).square().div(-2).exp() / (deviation * math.sqrt(2 * math.pi))
