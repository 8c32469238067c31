"""Top-k training (Sinha et al., 2020, arXiv:2002.06224).

G learns only from the fakes that D rates best.
"""

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Gt, Le
from omegaconf import DictConfig
from torch import Tensor

from twoplayer.tricks.base import Trick, refuse_vectors


class TopK(Trick):
    """Gives all weight to the best share of a batch; the weights still sum to the number of logits.

    The share is 1 at first and is multiplied by `decay` every `fade_images` real images, down to
    `least`.
    """

    moving = frozenset({"share"})

    def __init__(
        self, *, least: Annotated[float, Gt(0), Le(1)], decay: Annotated[float, Gt(0), Le(1)], fade_images: Annotated[int, Gt(0)]
    ) -> None:
        super().__init__()
        self.least, self.decay, self.fade_images = least, decay, fade_images
        self.register_buffer("share", torch.tensor(1.0))
        self.share: Tensor

    @staticmethod
    def refuse(config: DictConfig) -> None:
        refuse_vectors("top_k", config, "which cannot be ranked")

    def begin(self, images_seen: int, numbers: Mapping[str, Tensor]) -> None:
        self.share.fill_(max(self.least, self.decay ** (images_seen / self.fade_images)))

    def weights(self, logits: Tensor, weights: Tensor) -> Tensor:
        ranking = logits.detach().argsort(descending=True).argsort()
        kept = weights * (ranking < (self.share * len(logits)).round().clamp_min(1))
        return kept * len(logits) / kept.sum()

    def report(self) -> dict[str, Tensor]:
        return {"share": self.share}
