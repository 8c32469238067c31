"""Samples of the same class are too much alike: a conditional generator ignores its latents."""

from collections.abc import Sequence
from typing import Annotated, Any

from annotated_types import Gt, Lt

from twoplayer.referee.base import Advice, Rule
from twoplayer.referee.evidence import Evidence


class ClassCollapse(Rule):
    """The variance of samples in features, within classes, is far below that of real images.

    Neither the classes nor the variance over all samples show it. It needs a conditional generator
    or the codes of an InfoGAN.
    """

    reads = ("spread_within",)
    advice = (
        Advice(trick="minibatch_stddev"),
        Advice(setting="optimizer.generator.lr", times=0.25),
        Advice(trick="r1"),
    )

    def __init__(self, *, most_spread: Annotated[float, Gt(0), Lt(1)], **settings: Any) -> None:
        super().__init__(**settings)
        self.most_spread = most_spread

    def fails(self, look: Evidence, before: Sequence[Evidence]) -> bool:
        return look["spread_within"] <= self.most_spread

    def says(self, look: Evidence) -> str:
        return (
            f"mode collapse within classes: samples of a class are alike, with {look['spread_within']:.0%} of the variance of real images"
        )
