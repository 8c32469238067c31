"""A player goes on until its cost is low enough (tip 11 of "How to train a GAN", which counsels against it)."""

from typing import Annotated

from annotated_types import Gt

from twoplayer.tricks.base import Costs, Trick, Turns

Limit = Annotated[float, Gt(0)]


class AdaptiveSteps(Trick):
    """While D's last cost is above its limit D alone has a turn, else while G's is above its own G alone has one; each is an iteration of
    its own, which counts against the budget.
    """

    def __init__(self, *, discriminator: Limit, generator: Limit) -> None:
        super().__init__()
        self.discriminator, self.generator = discriminator, generator

    def turns(self, iteration: int, turns: Turns, costs: Costs | None) -> Turns:
        """Reads the costs, for which the host has to wait."""
        if costs is None:
            return turns
        if float(costs.discriminator) > self.discriminator:
            return turns._replace(generator=0)
        if float(costs.generator) > self.generator:
            return turns._replace(discriminator=0)
        return turns
