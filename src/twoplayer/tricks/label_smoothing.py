"""One-sided label smoothing (Salimans et al., 2016, arXiv:1606.03498, section 3.4).

The real label is slightly below 1; the fake label stays 0.
"""

from typing import Annotated

from annotated_types import Gt, Le
from omegaconf import DictConfig
from torch import Tensor

from twoplayer.tricks.base import Trick, refuse_without_soft_labels


class LabelSmoothing(Trick):
    """Multiplies the real label by `real_label`."""

    def __init__(self, *, real_label: Annotated[float, Gt(0.5), Le(1)]) -> None:
        super().__init__()
        self.real_label = real_label

    @staticmethod
    def refuse(config: DictConfig) -> None:
        refuse_without_soft_labels("label_smoothing", config)

    def targets(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        return real * self.real_label, fake
