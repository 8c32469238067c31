"""A network that draws a plane of categories place by place, row by row from left to right.

PixelCNN (van den Oord et al., 2016, arXiv:1601.06759): masks keep each place from seeing itself and
later ones, so a single pass gives the distribution of every place in training. Sampling goes place
by place, and computes of each layer only what the next place needs.
"""

from typing import Annotated, cast

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

Size = Annotated[int, Ge(1)]


class MaskedConv(nn.Conv2d):
    """A convolution that sees earlier places only, and its own if `own`."""

    def __init__(self, inputs: int, outputs: int, size: int, own: bool) -> None:
        super().__init__(inputs, outputs, size, 1, size // 2)
        mask = torch.zeros(size, size)
        mask.flatten()[: size * size // 2 + own] = 1
        self.register_buffer("mask", mask)
        self.mask: Tensor

    def forward(self, maps: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H, W)."""
        return conv2d(maps, self.weight * self.mask, self.bias, 1, self.padding)

    def at(self, padded: Tensor, row: int, column: int) -> Tensor:
        """The output (N, outputs) at one place, from maps that are padded by half the kernel."""
        size = self.kernel_size[0]
        patch = padded[:, :, row : row + size, column : column + size].flatten(1)
        return nn.functional.linear(patch, (self.weight * self.mask).flatten(1), self.bias)


class Block(nn.Module):
    """A residual block: a masked 3 x 3 convolution between ReLUs, and one of 1 x 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.masked, self.mix = MaskedConv(width, width, 3, own=True), nn.Linear(width, width)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, width, H, W) to the same shape."""
        hidden = self.masked(maps.relu()).relu()
        return maps + self.mix(hidden.movedim(1, -1)).movedim(-1, 1)

    def at(self, here: Tensor, maps: Tensor, row: int, column: int) -> Tensor:
        """The output (N, width) at one place, whose input `here` is put into the padded `maps`."""
        maps[:, :, row + 1, column + 1] = here.relu()
        return here + cast(Tensor, self.mix(self.masked.at(maps, row, column).relu()))


class Autoregressive(nn.Module):
    """Planes (N, inputs, H, W) to logits (N, categories, H, W), each given the earlier places."""

    def __init__(self, *, inputs: Size, categories: Size, width: Size, num_blocks: Size) -> None:
        super().__init__()
        self.inputs, self.categories = inputs, categories
        self.first = MaskedConv(inputs, width, 7, own=False)
        self.blocks = nn.ModuleList(Block(width) for _ in range(num_blocks))
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, categories))

    def forward(self, planes: Tensor) -> Tensor:
        """Logits of every place in one pass."""
        maps = self.first(planes)
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
        hidden = [pad(chances.new_zeros(num, self.first.out_channels, rows, columns), (1, 1, 1, 1)) for _ in self.blocks]
        for row in range(rows):
            for column in range(columns):
                here = self.first.at(seen, row, column)
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
