"""Several updates of G for each of D, each from fresh latents."""

from typing import Annotated

from annotated_types import Ge

from twoplayer.tricks.base import Costs, Trick, Turns


class GeneratorSteps(Trick):
    """`steps` updates of G where it would have one."""

    def __init__(self, *, steps: Annotated[int, Ge(1)]) -> None:
        super().__init__()
        self.steps = steps

    def turns(self, iteration: int, turns: Turns, costs: Costs | None) -> Turns:
        return turns._replace(generator=turns.generator * self.steps)
