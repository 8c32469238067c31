"""The discriminator wins, and the generator no longer learns from it."""

from collections.abc import Sequence
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le

from twoplayer.referee.base import Advice, Rule
from twoplayer.referee.evidence import Evidence


class DiscriminatorOverpowers(Rule):
    """D orders nearly all pairs of real and generated images correctly, and samples are far off.

    D alone does not tell: it often finds the fakes of a good generator.
    """

    reads = ("accuracy/pairs", "shift")
    advice = (
        Advice(trick="r1"),
        Advice(setting="optimizer.discriminator.lr", times=0.25),
        Advice(setting="loss", value="non_saturating"),
        Advice(trick="instance_noise"),
    )

    def __init__(self, *, least_pairs: Annotated[float, Ge(0.5), Le(1)], least_shift: Annotated[float, Gt(0)], **settings: Any) -> None:
        super().__init__(**settings)
        self.least_pairs, self.least_shift = least_pairs, least_shift

    def fails(self, look: Evidence, before: Sequence[Evidence]) -> bool:
        return look["accuracy/pairs"] >= self.least_pairs and look["shift"] >= self.least_shift

    def says(self, look: Evidence) -> str:
        return (
            f"the discriminator overpowers the generator: it puts {look['accuracy/pairs']:.1%} of pairs of a real and a generated image in order, "
            "and samples are far from real images"
        )
