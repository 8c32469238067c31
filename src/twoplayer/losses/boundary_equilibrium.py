"""BEGAN (Berthelot, Schumm and Metz, 2017, arXiv:1703.10717).

D is an autoencoder, and the energies of both sides are kept in balance.
"""

from typing import Annotated

import torch
from annotated_types import Gt, Le
from torch import Tensor

from twoplayer.distributed import ranks
from twoplayer.losses.energy import AutoencoderLoss
from twoplayer.models.base import Side


class BoundaryEquilibrium(AutoencoderLoss):
    """D lowers the energy of real images and raises `balance` times that of fakes.

    The balance is adjusted until the energy of fakes is `diversity` times that of real images. A
    lower diversity gives better looking but less varied images.
    """

    def __init__(self, *, diversity: Annotated[float, Gt(0), Le(1)], gain: Annotated[float, Gt(0)]) -> None:
        super().__init__()
        self.diversity, self.gain = diversity, gain
        self.register_buffer("balance", torch.tensor(0.0))
        self.register_buffer("convergence", torch.tensor(0.0))
        self.balance: Tensor
        self.convergence: Tensor

    def fake(self, logits: Tensor) -> Tensor:
        """The negative energy, times the balance."""
        return self.balance * logits

    def update(self, real: Side, fake: Side) -> None:
        """Proportional control of the balance; the lower the convergence measure, the better."""
        on_real, on_fake = ranks.mean(torch.stack([-real.logits.mean(), -fake.logits.mean()]))
        error = self.diversity * on_real - on_fake
        self.balance.add_(self.gain * error).clamp_(0, 1)
        self.convergence.copy_(on_real + error.abs())

    def report(self) -> dict[str, Tensor]:
        """The k and the M of the paper."""
        return {"balance": self.balance, "convergence": self.convergence}
