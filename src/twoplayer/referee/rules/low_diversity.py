"""Samples are too much alike, judged without labels."""

from collections.abc import Sequence
from typing import Annotated, Any

from annotated_types import Gt, Lt

from twoplayer.referee.base import Rule
from twoplayer.referee.evidence import Evidence
from twoplayer.referee.rules.mode_collapse import CURES


class LowDiversity(Rule):
    """The variance of samples in features is far below that of real images: mode collapse."""

    reads = ("spread",)
    advice = CURES

    def __init__(self, *, most_spread: Annotated[float, Gt(0), Lt(1)], **settings: Any) -> None:
        super().__init__(**settings)
        self.most_spread = most_spread

    def fails(self, look: Evidence, before: Sequence[Evidence]) -> bool:
        return look["spread"] <= self.most_spread

    def says(self, look: Evidence) -> str:
        return f"mode collapse: samples are alike, with {look['spread']:.0%} of the variance of real images in features"
