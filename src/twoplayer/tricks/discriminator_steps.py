"""Several updates of D for each of G (Goodfellow et al., 2014, arXiv:1406.2661, algorithm 1).

Each is on its own batch.
"""

from typing import Annotated

from annotated_types import Ge

from twoplayer.tricks.base import Costs, Trick, Turns


class DiscriminatorSteps(Trick):
    """G is updated in every `steps`-th iteration."""

    def __init__(self, *, steps: Annotated[int, Ge(1)]) -> None:
        super().__init__()
        self.steps = steps

    def turns(self, iteration: int, turns: Turns, costs: Costs | None) -> Turns:
        return turns if (iteration + 1) % self.steps == 0 else turns._replace(generator=0)
