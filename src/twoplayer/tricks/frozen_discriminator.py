"""D keeps its initial weights.

With loss=mmd this is GMMN (Li, Swersky and Zemel, 2015, arXiv:1502.02761) on random features.
"""

from twoplayer.tricks.base import Costs, Trick, Turns


class FrozenDiscriminator(Trick):
    """D is never updated."""

    def turns(self, iteration: int, turns: Turns, costs: Costs | None) -> Turns:
        return turns._replace(discriminator=0)
