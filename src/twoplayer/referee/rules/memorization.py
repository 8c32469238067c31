"""The generator copies training images."""

from collections.abc import Sequence
from typing import Annotated, Any

from annotated_types import Gt, Le

from twoplayer.referee.base import Advice, Rule
from twoplayer.referee.evidence import Evidence


class Memorization(Rule):
    """Samples are nearer to training images than held-out images are."""

    reads = ("copies",)
    advice = (Advice(trick="diff_augment"), Advice(trick="ada"), Advice(setting="data.num_images", value="null"))

    def __init__(self, *, least_copies: Annotated[float, Gt(0), Le(1)], **settings: Any) -> None:
        super().__init__(**settings)
        self.least_copies = least_copies

    def fails(self, look: Evidence, before: Sequence[Evidence]) -> bool:
        return look["copies"] >= self.least_copies

    def says(self, look: Evidence) -> str:
        return f"the generator copies training images: {look['copies']:.0%} of samples are as near to one as the nearest 5 % of held-out images are"
