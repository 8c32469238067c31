"""The discriminator knows its training images by heart."""

from collections.abc import Sequence
from typing import Annotated, Any

from annotated_types import Gt, Le

from twoplayer.referee.base import Advice, Rule
from twoplayer.referee.evidence import Evidence


class DiscriminatorOverfits(Rule):
    """D gives images that it was trained on larger logits than images that it has not seen."""

    reads = ("order/held_out",)
    advice = (Advice(trick="diff_augment"), Advice(trick="ada"), Advice(trick="r1"), Advice(trick="lecam"))

    def __init__(self, *, least_order: Annotated[float, Gt(0.5), Le(1)], **settings: Any) -> None:
        super().__init__(**settings)
        self.least_order = least_order

    def fails(self, look: Evidence, before: Sequence[Evidence]) -> bool:
        return look["order/held_out"] >= self.least_order

    def says(self, look: Evidence) -> str:
        return (
            f"the discriminator overfits: a training image gets a larger logit than a held-out one in {look['order/held_out']:.0%} of pairs, "
            "where 50 % would be fair"
        )
