"""A network that draws a plane of categories place by place, row by row from left to right.

PixelCNN (van den Oord et al., 2016, arXiv:1601.06759): masks keep each place from seeing itself and
later ones, so a single pass gives the distribution of every place in training. Sampling goes place
by place, and computes of each layer only what the next place needs. Dilated kernels see far with
few layers (Yu and Koltun, 2016, arXiv:1511.07122).
"""

from typing import Annotated, cast

import torch
from annotated_types import Ge, MinLen
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

Size = Annotated[int, Ge(1)]
Dilations = Annotated[list[Size], MinLen(1)]


class MaskedConv(nn.Conv2d):
    """A convolution that sees earlier places only, and its own if `own`.

    A kernel of `size` x `size` covers places that are `dilation` apart.
    """

    def __init__(self, inputs: int, outputs: int, size: int, own: bool, dilation: int = 1) -> None:
        super().__init__(inputs, outputs, size, 1, dilation * (size // 2), dilation)
        mask = torch.zeros(size, size)
        mask.flatten()[: size * size // 2 + own] = 1
        self.register_buffer("mask", mask)
        self.mask: Tensor

    def forward(self, maps: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H, W)."""
        return conv2d(maps, self.weight * self.mask, self.bias, 1, self.padding, self.dilation)

    def at(self, padded: Tensor, row: int, column: int) -> Tensor:
        """The output (N, outputs) at one place, from maps padded as for all places."""
        step = self.dilation[0]
        length = step * (self.kernel_size[0] - 1) + 1
        patch = padded[:, :, row : row + length : step, column : column + length : step].flatten(1)
        return nn.functional.linear(patch, (self.weight * self.mask).flatten(1), self.bias)


class Block(nn.Module):
    """A residual block: a masked 3 x 3 convolution between ReLUs, and one of 1 x 1."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.masked, self.mix = MaskedConv(width, width, 3, True, dilation), nn.Linear(width, width)
        self.margin = dilation

    def forward(self, maps: Tensor) -> Tensor:
        """(N, width, H, W) to the same shape."""
        hidden = self.masked(maps.relu()).relu()
        return maps + self.mix(hidden.movedim(1, -1)).movedim(-1, 1)

    def at(self, here: Tensor, maps: Tensor, row: int, column: int) -> Tensor:
        """The output (N, width) at one place, whose input `here` is put into the padded `maps`."""
        maps[:, :, row + self.margin, column + self.margin] = here.relu()
        return here + cast(Tensor, self.mix(self.masked.at(maps, row, column).relu()))


class Autoregressive(nn.Module):
    """Planes (N, inputs, S, S) to logits (N, categories, S, S), each given the earlier places.

    There is one residual block for each of the `dilations`. What depends on the place alone, such
    as that digits are in the middle, is learned as a bias of each place.
    """

    def __init__(self, *, inputs: Size, categories: Size, size: Size, width: Size, dilations: Dilations) -> None:
        super().__init__()
        self.inputs, self.categories = inputs, categories
        self.first = MaskedConv(inputs, width, 7, own=False)
        self.places = nn.Parameter(torch.zeros(width, size, size))
        self.blocks = nn.ModuleList(Block(width, dilation) for dilation in dilations)
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, categories))

    def forward(self, planes: Tensor) -> Tensor:
        """Logits of every place in one pass."""
        maps = self.first(planes) + self.places
        for block in self.blocks:
            maps = block(maps)
        logits: Tensor = self.head(maps.movedim(1, -1))
        return logits.movedim(-1, 1)

    @torch.no_grad()
    def draw(self, chances: Tensor, values: Tensor) -> Tensor:
        """Categories (N, H, W), each where its distribution function first exceeds `chances`.

        `chances` (N, H, W) are uniform in [0, 1]. `values` (categories, inputs) is what the network
        gets to see of each category.
        """
        num, rows, columns = chances.shape
        drawn = torch.zeros(num, rows, columns, dtype=torch.int64, device=chances.device)
        seen = pad(chances.new_zeros(num, self.inputs, rows, columns), (3, 3, 3, 3))
        empty = chances.new_zeros(num, self.first.out_channels, rows, columns)
        hidden = [pad(empty, [cast(Block, block).margin] * 4) for block in self.blocks]
        for row in range(rows):
            for column in range(columns):
                here = self.first.at(seen, row, column) + self.places[:, row, column]
                for block, maps in zip(self.blocks, hidden, strict=True):
                    here = cast(Block, block).at(here, maps, row, column)
                passed = self.head(here).float().softmax(1).cumsum(1)
                chosen = (passed < chances[:, row, column, None]).sum(1).clamp(max=self.categories - 1)
                drawn[:, row, column] = chosen
                seen[:, :, row + 3, column + 3] = values[chosen]
        return drawn


def uniform(latents: Tensor) -> Tensor:
    """Normal latents as numbers that are uniform in [0, 1]."""
    return torch.special.ndtr(latents.float())
