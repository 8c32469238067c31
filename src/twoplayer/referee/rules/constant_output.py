"""The generator ignores its latents."""

from collections.abc import Sequence
from typing import Annotated, Any

from annotated_types import Gt, Lt

from twoplayer.referee.base import Advice, Rule
from twoplayer.referee.evidence import Evidence


class ConstantOutput(Rule):
    """All samples are nearly the same."""

    reads = ("variation",)
    advice = (
        Advice(setting="optimizer.generator.lr", times=0.25),
        Advice(setting="loss", value="non_saturating"),
        Advice(trick="minibatch_stddev"),
    )

    def __init__(self, *, most_variation: Annotated[float, Gt(0), Lt(1)], **settings: Any) -> None:
        super().__init__(**settings)
        self.most_variation = most_variation

    def fails(self, look: Evidence, before: Sequence[Evidence]) -> bool:
        return look["variation"] <= self.most_variation

    def says(self, look: Evidence) -> str:
        return f"the generator ignores its latents: all samples are nearly equal ({look['variation']:.1%} of the variation of real images)"
