"""Several updates of G for each of D, each from fresh latents."""

from typing import Annotated

from annotated_types import Ge

from twoplayer.tricks.base import Costs, Trick, Turns


class GeneratorSteps(Trick):
    """G's turn has `steps` updates."""

    def __init__(self, *, steps: Annotated[int, Ge(1)]) -> None:
        super().__init__()
        self.steps = steps

    def turns(self, iteration: int, turns: Turns, costs: Costs | None) -> Turns:
        """`steps` updates where G would have one."""
        return turns._replace(generator=turns.generator * self.steps)
