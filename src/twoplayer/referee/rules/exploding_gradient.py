"""A gradient grows without bound."""

from collections.abc import Sequence
from typing import Annotated, Any

from annotated_types import Gt

from twoplayer.referee.base import Advice, Rule
from twoplayer.referee.evidence import Evidence

NORMS = ("gradient_norm/discriminator", "gradient_norm/generator")


class ExplodingGradient(Rule):
    """The norm of a player's gradient is above `least`, and `times` its smallest so far."""

    reads = NORMS
    advice = (
        Advice(setting="optimizer.discriminator.lr", times=0.25),
        Advice(setting="optimizer.generator.lr", times=0.25),
        Advice(trick="gradient_clipping"),
        Advice(trick="r1"),
    )

    def __init__(self, *, least: Annotated[float, Gt(0)], times: Annotated[float, Gt(1)], **settings: Any) -> None:
        super().__init__(**settings)
        self.least, self.times = least, times

    def fails(self, look: Evidence, before: Sequence[Evidence]) -> bool:
        earlier = {name: [each[name] for each in before if name in each] for name in NORMS}
        return any(look[name] >= max(self.least, self.times * min(usual)) for name, usual in earlier.items() if usual)

    def says(self, look: Evidence) -> str:
        norms = ", ".join(f"{look[name]:,.0f} of the {name.rpartition('/')[2]}" for name in NORMS)
        return f"a gradient explodes (its norm is {norms})"
