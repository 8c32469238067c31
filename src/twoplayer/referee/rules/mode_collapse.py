"""The generator draws only a part of what there is, judged by classes."""

from collections.abc import Sequence
from typing import Annotated, Any

from annotated_types import Gt, Lt

from twoplayer.referee.base import Advice, Rule
from twoplayer.referee.evidence import Evidence

CURES = (
    Advice(trick="minibatch_stddev"),
    Advice(trick="packing"),
    Advice(trick="r1"),
    Advice(setting="optimizer.generator.lr", times=0.25),
)


class ModeCollapse(Rule):
    """Samples show effectively fewer classes than real images. It needs a classifier."""

    reads = ("classes",)
    advice = CURES

    def __init__(self, *, most_classes: Annotated[float, Gt(0), Lt(1)], **settings: Any) -> None:
        super().__init__(**settings)
        self.most_classes = most_classes

    def fails(self, look: Evidence, before: Sequence[Evidence]) -> bool:
        return look["classes"] <= self.most_classes

    def says(self, look: Evidence) -> str:
        return f"mode collapse: samples show effectively {look['classes']:.0%} of the classes of real images"
