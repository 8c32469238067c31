"""D keeps its initial weights, for losses that do not need it, such as moment_matching."""

from twoplayer.tricks.base import Costs, Trick, Turns


class FrozenDiscriminator(Trick):
    """D is never updated."""

    excludes = dict.fromkeys(("discriminator_steps", "pretrain_discriminator"), "there would be iterations in which no player is updated")

    def turns(self, iteration: int, turns: Turns, costs: Costs | None) -> Turns:
        return turns._replace(discriminator=0)
