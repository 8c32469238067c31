"""Scores over several seeds: their middle, its interval, and the comparison with others.

Interquartile mean and probability of improvement are those of Agarwal et al. (2021,
arXiv:2108.13264), for one task.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

RESAMPLES = 2000
ERROR_RATE = 0.05


class Estimate(NamedTuple):
    """An interquartile mean and its interval, which is None for a single value."""

    value: float
    interval: tuple[float, float] | None


def interquartile_mean(values: Sequence[float]) -> Estimate:
    """The mean of the middle half of the values, which is that of all if there are fewer than four.

    The interval is that of 2,000 bootstrap samples of the values, which are drawn alike each time.
    Of fewer than four values it is the lowest and the highest, where the bootstrap would end, too.
    """
    middle = float(stats.trim_mean(values, 0.25))
    if len(values) < 2:
        return Estimate(middle, None)
    if len(values) < 4:
        return Estimate(middle, (float(min(values)), float(max(values))))
    drawn = np.random.default_rng(0).choice(np.asarray(values, dtype=float), (RESAMPLES, len(values)))
    low, high = np.quantile(stats.trim_mean(drawn, 0.25, axis=1), [0.025, 0.975])
    return Estimate(middle, (float(low), float(high)))


def probability_of_improvement(costs: Sequence[float], others: Sequence[float]) -> float:
    """How often one of `costs` is below one of `others`, over all pairs; equal ones count half."""
    difference = np.subtract.outer(np.asarray(others), np.asarray(costs))
    return float((np.sign(difference) + 1).mean() / 2)


def paired_differences(differences: Sequence[Sequence[float]]) -> list[Estimate | None]:
    """The mean of each group of paired differences, with its interval; None for an empty group.

    The intervals are those of Student's t, which is honest for three seeds where the bootstrap is
    not. An interval contains 0 where the method of Holm (1979) does not reject: if all differences
    are 0, all intervals contain 0 in 95 % of cases. That all of them contain their true values,
    whatever these are, is less certain. The interval of a single difference is None.
    """
    tests: list[tuple[float, int]] = []
    for number, group in enumerate(differences):
        if len(group) > 1:
            error = float(np.std(group, ddof=1)) / len(group) ** 0.5
            mean = abs(float(np.mean(group)))
            statistic = mean / error if error > 0 else (float("inf") if mean > 0 else 0.0)
            tests.append((float(2 * stats.t.sf(statistic, len(group) - 1)), number))
    levels: dict[int, float] = {}
    rejecting = True
    for done, (chance, number) in enumerate(sorted(tests)):
        if rejecting:
            level = ERROR_RATE / (len(tests) - done)
            rejecting = chance <= level
        levels[number] = level
    return [_mean(group, levels.get(number)) if len(group) else None for number, group in enumerate(differences)]


def _mean(group: Sequence[float], level: float | None) -> Estimate:
    middle = float(np.mean(group))
    if level is None:
        return Estimate(middle, None)
    half = float(stats.t.ppf(1 - level / 2, len(group) - 1) * np.std(group, ddof=1)) / len(group) ** 0.5
    return Estimate(middle, (middle - half, middle + half))
