"""DiffAugment (Zhao et al., 2020, arXiv:2006.10738): all images that D sees are augmented.

G's gradients pass through the augmentation.
"""

from typing import Annotated

from annotated_types import Ge, Le, Lt
from torch import Tensor

from twoplayer.tricks.augmentations import brighten, cut_out, translate, warp
from twoplayer.tricks.base import Trick

Share = Annotated[float, Ge(0), Lt(1)]


class DiffAugment(Trick):
    """Changes drawn for each image; those of amount 0 are left out.

    They are brightness, translation and cutout, and warps: rotation, shear and scale.
    """

    needs = frozenset({"images"})

    def __init__(
        self,
        *,
        brightness: Annotated[float, Ge(0)],
        translation: Share,
        cutout: Share,
        rotation: Annotated[float, Ge(0), Le(180)],
        shear: Annotated[float, Ge(0)],
        scale: Share,
    ) -> None:
        super().__init__()
        self.brightness, self.translation, self.cutout = brightness, translation, cutout
        self.warp = (rotation, shear, scale)

    def view(self, images: Tensor) -> Tensor:
        for change, amount in ((brighten, self.brightness), (translate, self.translation), (cut_out, self.cutout)):
            images = change(images, amount) if amount else images
        return warp(images, *self.warp) if any(self.warp) else images
