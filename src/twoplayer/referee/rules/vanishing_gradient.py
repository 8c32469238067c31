"""The generator gets no gradient."""

import statistics
from collections.abc import Sequence
from typing import Annotated, Any

from annotated_types import Gt, Lt

from twoplayer.referee.base import Advice, Rule
from twoplayer.referee.evidence import Evidence

NORM = "gradient_norm/generator"


class VanishingGradient(Rule):
    """The norm of G's gradient falls below `most` of its earlier median, or of D's gradient."""

    reads = (NORM, "gradient_norm/discriminator")
    advice = (
        Advice(setting="loss", value="non_saturating"),
        Advice(trick="r1"),
        Advice(setting="optimizer.discriminator.lr", times=0.25),
    )

    def __init__(self, *, most: Annotated[float, Gt(0), Lt(1)], **settings: Any) -> None:
        super().__init__(**settings)
        self.most = most

    def fails(self, look: Evidence, before: Sequence[Evidence]) -> bool:
        usual = [earlier[NORM] for earlier in before if NORM in earlier]
        return look[NORM] <= self.most * max(statistics.median(usual) if usual else 0.0, look["gradient_norm/discriminator"])

    def says(self, look: Evidence) -> str:
        return f"the generator's gradient has vanished (norm {look[NORM]:.2g}): it no longer learns"
