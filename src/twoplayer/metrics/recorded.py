"""Reads the entry `scores` of summary.json, and formats it for display.

It holds a dict per number, by name: `value` on the test split, `validation`, `best_validation` and
`untrained`; `interval`, the 95 % interval of `value`, where it is known; `better`, the direction;
`floor`, the score of real images against real images; `protocol`, what a comparable score must
share; or `reason`, why there is no score. The first number is the leading one.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class Score(NamedTuple):
    """One number of a run. A field is None if it is not known, or not yet."""

    name: str
    better: str
    value: float | None
    validation: float | None
    best_validation: float | None
    untrained: float | None
    floor: float | None
    protocol: Mapping[str, Any]
    interval: tuple[float, float] | None = None

    def times_floor(self, value: float) -> str:
        """`value` relative to real images: `220.0 x floor`, `0.86 x ceiling`, or empty."""
        return f"{self.ratio(value)} x {self.limit}" if self.ratio(value) else ""

    def ratio(self, value: float) -> str:
        """`value` divided by the floor or ceiling; empty if that is not known."""
        if self.floor is None or self.floor <= 0:  # an unbiased estimate of zero may be negative
            return ""
        return f"{value / self.floor:,.1f}" if self.better == "lower" else f"{value / self.floor:.2f}"

    @property
    def limit(self) -> str:
        """`floor` or `ceiling`: what the score of real images is for this number."""
        return "floor" if self.better == "lower" else "ceiling"

    def line(self) -> str:
        """The line that is printed at the end of a run, with the interval if it is known."""
        assert self.value is not None
        times = f"{self.ratio(self.value)} x its {self.limit} of" if self.ratio(self.value) and not self.interval else self.limit
        parts = ["95 % interval {} to {}".format(*map(digits, self.interval))] if self.interval else []
        parts += [f"{times} {digits(self.floor)}"] if self.floor is not None else []
        parts += [f"untrained {digits(self.untrained)}"] if self.untrained is not None else []
        return f"{f'{self.name}, on the test split':<23} {digits(self.value)}   {', '.join(parts)}"


def read(summary: Mapping[str, Any]) -> list[Score]:
    """The numbers of a run from its summary, the leading one first."""
    return [
        Score(
            name,
            str(entry.get("better", "lower")),
            value=_number(entry.get("value")),
            validation=_number(entry.get("validation")),
            best_validation=_number(entry.get("best_validation")),
            untrained=_number(entry.get("untrained")),
            floor=_number(entry.get("floor")),
            protocol=entry.get("protocol") or {},
            interval=tuple(entry["interval"]) if entry.get("interval") else None,
        )
        for name, entry in (summary.get("scores") or {}).items()
    ]


def lines(summary: Mapping[str, Any]) -> Iterator[str]:
    """One line per number that has a score on the test split."""
    return (score.line() for score in read(summary) if score.value is not None)


def objective(summary: Mapping[str, Any]) -> float | None:
    """The value that a sweep minimizes: the cost of the leading number on the validation split.

    None if there is no score.
    """
    for score in read(summary)[:1]:
        return None if score.validation is None else cost(score.validation, score.better)
    return None


def cost(value: float, better: str) -> float:
    """The value, negated if higher is better, so that a lower cost is always better."""
    return -value if better == "higher" else value


def digits(value: float) -> str:
    """The value rounded for display: 4,098.3, 4.07, 0.712."""
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def _number(value: Any) -> float | None:
    """None unless finite: summary.json holds `nan` and `inf` as text."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
