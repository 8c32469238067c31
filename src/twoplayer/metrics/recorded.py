"""What a run has recorded of its scores, `scores` in summary.json, as lines and cells for people.

Per number, by its name: `value` on the test split, `validation`, `best_validation`, `untrained`; `better`, the direction; `floor`, what real
images score against real images; `protocol`, what another score has to share; or `reason`, why there is none. The first number leads.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class Score(NamedTuple):
    """One number of a run; what is None is not known, or not yet."""

    name: str
    better: str
    value: float | None
    validation: float | None
    untrained: float | None
    floor: float | None
    protocol: Mapping[str, Any]

    def times_floor(self, value: float) -> str:
        """How far from real images a value of this number is: `220.0 x floor`, or `0.86 x ceiling`; nothing where that is not known."""
        return f"{self.ratio(value)} x {self.limit}" if self.floor else ""

    def ratio(self, value: float) -> str:
        """The value over the floor, or over the ceiling."""
        if not self.floor:
            return ""
        return f"{value / self.floor:,.1f}" if self.better == "lower" else f"{value / self.floor:.2f}"

    @property
    def limit(self) -> str:
        """What the score of real images is: no generator can be expected to go below, or above."""
        return "floor" if self.better == "lower" else "ceiling"

    def line(self) -> str:
        """For the end of a run."""
        assert self.value is not None
        parts = [f"{self.ratio(self.value)} x its {self.limit} of {digits(self.floor)}"] if self.floor else []
        parts += [f"untrained {digits(self.untrained)}"] if self.untrained is not None else []
        return f"{f'{self.name}, on the test split':<23} {digits(self.value)}   {', '.join(parts)}"


def read(summary: Mapping[str, Any]) -> list[Score]:
    """The numbers of a run, the leading one first."""
    return [
        Score(
            name,
            str(entry.get("better", "lower")),
            value=_number(entry.get("value")),
            validation=_number(entry.get("validation")),
            untrained=_number(entry.get("untrained")),
            floor=_number(entry.get("floor")),
            protocol=entry.get("protocol") or {},
        )
        for name, entry in (summary.get("scores") or {}).items()
    ]


def lines(summary: Mapping[str, Any]) -> Iterator[str]:
    """A line per number that a run has ended with."""
    return (score.line() for score in read(summary) if score.value is not None)


def objective(summary: Mapping[str, Any]) -> float | None:
    """What a sweep minimizes: the leading number on the validation split, turned so that less is better; None where there is none."""
    for score in read(summary)[:1]:
        return None if score.validation is None else cost(score.validation, score.better)
    return None


def cost(value: float, better: str) -> float:
    """The value, turned so that less is better."""
    return -value if better == "higher" else value


def digits(value: float) -> str:
    """Rounded to what a person compares: 4,098.3, 4.07, 0.712."""
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def _number(value: Any) -> float | None:
    """JSON has `nan` and `inf` as text."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
