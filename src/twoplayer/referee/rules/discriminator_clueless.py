"""The discriminator cannot tell bad samples from real images."""

from collections.abc import Sequence
from typing import Annotated, Any

from annotated_types import Gt, Le

from twoplayer.referee.base import Advice, Rule
from twoplayer.referee.evidence import Evidence


class DiscriminatorClueless(Rule):
    """D orders pairs of real and generated images by chance, although samples are far off.

    With good samples, chance is the equilibrium of the game.
    """

    reads = ("accuracy/pairs", "shift")
    advice = (
        Advice(setting="optimizer.discriminator.lr", times=4.0),
        Advice(setting="optimizer.generator.lr", times=0.25),
        Advice(trick="discriminator_steps"),
    )

    def __init__(self, *, most_pairs: Annotated[float, Gt(0.5), Le(1)], least_shift: Annotated[float, Gt(0)], **settings: Any) -> None:
        super().__init__(**settings)
        self.most_pairs, self.least_shift = most_pairs, least_shift

    def fails(self, look: Evidence, before: Sequence[Evidence]) -> bool:
        return look["accuracy/pairs"] <= self.most_pairs and look["shift"] >= self.least_shift

    def says(self, look: Evidence) -> str:
        return (
            f"the discriminator is clueless: it puts {look['accuracy/pairs']:.1%} of pairs of a real and a generated image in order, "
            "no better than by chance, although samples are far from real images"
        )
