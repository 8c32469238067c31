"""Several updates of D for each of G (Goodfellow et al., 2014, arXiv:1406.2661, algorithm 1), each on a batch of its own."""

from typing import Annotated

from annotated_types import Ge

from twoplayer.tricks.base import Costs, Trick, Turns


class DiscriminatorSteps(Trick):
    """G has its turn in every `steps`-th iteration."""

    def __init__(self, *, steps: Annotated[int, Ge(1)]) -> None:
        super().__init__()
        self.steps = steps

    def turns(self, iteration: int, turns: Turns, costs: Costs | None) -> Turns:
        """G waits until D has had its steps."""
        return turns if (iteration + 1) % self.steps == 0 else turns._replace(generator=0)
