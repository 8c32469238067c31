"""One player trains alone until its cost is low enough (tip 11 of "How to train a GAN").

The tip advises against it.
"""

from typing import Annotated

from annotated_types import Gt

from twoplayer.tricks.base import Costs, Trick, Turns

Limit = Annotated[float, Gt(0)]


class AdaptiveSteps(Trick):
    """D trains alone while its last cost is above its limit, else G while its own is above its own.

    Each such update is an iteration of its own, which counts against the budget.
    """

    excludes = dict.fromkeys(("discriminator_steps", "frozen_discriminator"), "there would be iterations in which no player is updated")

    def __init__(self, *, discriminator: Limit, generator: Limit) -> None:
        super().__init__()
        self.discriminator, self.generator = discriminator, generator

    def turns(self, iteration: int, turns: Turns, costs: Costs | None) -> Turns:
        """Reads the costs, for which the host waits for the device."""
        if costs is None:
            return turns
        if float(costs.discriminator) > self.discriminator:
            return turns._replace(generator=0)
        if float(costs.generator) > self.generator:
            return turns._replace(discriminator=0)
        return turns
