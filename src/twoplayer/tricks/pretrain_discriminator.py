"""D trains alone at first, against the untrained G."""

from collections.abc import Mapping
from typing import Annotated

from annotated_types import Gt
from torch import Tensor

from twoplayer.tricks.base import Costs, Trick, Turns


class PretrainDiscriminator(Trick):
    """G is not updated until `images` real images have been seen."""

    def __init__(self, *, images: Annotated[int, Gt(0)]) -> None:
        super().__init__()
        self.images = images
        self.images_seen = 0

    def begin(self, images_seen: int, numbers: Mapping[str, Tensor]) -> None:
        self.images_seen = images_seen

    def turns(self, iteration: int, turns: Turns, costs: Costs | None) -> Turns:
        return turns if self.images_seen >= self.images else turns._replace(generator=0)
