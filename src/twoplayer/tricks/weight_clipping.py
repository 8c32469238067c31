"""Weight clipping (Arjovsky, Chintala and Bottou, 2017, arXiv:1701.07875), as in the first WGAN."""

from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor, nn

from twoplayer.models.base import Side
from twoplayer.tricks.base import Trick


class WeightClipping(Trick):
    """Clamps all parameters of D to [-`limit`, `limit`] after each step."""

    bounds_slope = True

    def __init__(self, *, limit: Annotated[float, Gt(0)]) -> None:
        super().__init__()
        self.limit = limit

    @torch.no_grad()
    def after_discriminator(self, discriminator: nn.Module, real: Side, fake: Side) -> None:
        parameters: list[Tensor] = [*discriminator.parameters()]
        torch._foreach_clamp_min_(parameters, -self.limit)
        torch._foreach_clamp_max_(parameters, self.limit)
