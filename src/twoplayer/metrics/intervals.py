"""Scores over several seeds: their middle, its interval, and the comparison with others.

They are those of Agarwal et al. (2021, arXiv:2108.13264), for one task.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

RESAMPLES = 2000


class Estimate(NamedTuple):
    """An interquartile mean and its 95 % interval, which is None for a single value."""

    value: float
    interval: tuple[float, float] | None


def interquartile_mean(values: Sequence[float]) -> Estimate:
    """The mean of the middle half of the values, which is that of all if there are fewer than four.

    The interval is that of 2,000 bootstrap samples of the values, which are drawn alike each time.
    """
    middle = float(stats.trim_mean(values, 0.25))
    if len(values) < 2:
        return Estimate(middle, None)
    drawn = np.random.default_rng(0).choice(np.asarray(values, dtype=float), (RESAMPLES, len(values)))
    low, high = np.quantile(stats.trim_mean(drawn, 0.25, axis=1), [0.025, 0.975])
    return Estimate(middle, (float(low), float(high)))


def probability_of_improvement(costs: Sequence[float], others: Sequence[float]) -> float:
    """How often one of `costs` is below one of `others`, over all pairs; equal ones count half."""
    difference = np.subtract.outer(np.asarray(others), np.asarray(costs))
    return float((np.sign(difference) + 1).mean() / 2)
