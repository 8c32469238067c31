"""Sequences of residual blocks, and self-attention between them.

A residual block is a `ModuleDict` of `skip` and `residual`, whose outputs are added. Like this, a
network consists of modules of torch.nn alone, and its forward pass can be written down in full.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """Self-attention over all pixels (Zhang et al., 2019, arXiv:1805.08318).

    Keys and values are pooled, as in the authors' code. `gamma`, the weight of what it adds, starts
    at 0.
    """

    def __init__(self, maps: int) -> None:
        super().__init__()
        num_keys, num_values = max(maps // 8, 1), max(maps // 2, 1)
        self.query, self.key = nn.Conv2d(maps, num_keys, 1, bias=False), nn.Conv2d(maps, num_keys, 1, bias=False)
        self.value, self.output = nn.Conv2d(maps, num_values, 1, bias=False), nn.Conv2d(num_values, maps, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, maps: Tensor) -> Tensor:
        """Feature maps (N, C, H, W) to others of the same shape."""
        keys, values = (torch.max_pool2d(layer(maps), 2).flatten(2) for layer in (self.key, self.value))
        attention = (self.query(maps).flatten(2).mT @ keys).softmax(-1)
        return maps + self.gamma * self.output((values @ attention.mT).unflatten(2, maps.shape[2:]))

    @staticmethod
    def layout(name: str) -> str:
        """The forward pass of the module `name` as an expression of plain torch, with maps `h`."""
        keys, values = (f"torch.max_pool2d({name}.{layer}(h), 2).flatten(2)" for layer in ("key", "value"))
        attention = f"({name}.query(h).flatten(2).mT @ {keys}).softmax(-1)"
        return f"h + {name}.gamma * {name}.output(({values} @ {attention}.mT).unflatten(2, h.shape[2:]))"


def residual_block(skip: Iterable[nn.Module], residual: Iterable[nn.Module]) -> nn.ModuleDict:
    """A block that adds the outputs of two sequences of layers. An empty `skip` is the identity."""
    return nn.ModuleDict({"skip": nn.Sequential(*skip), "residual": nn.Sequential(*residual)})


def through(blocks: nn.ModuleList, maps: Tensor) -> Tensor:
    """The output of residual blocks and other modules in sequence."""
    for block in blocks:
        maps = block["skip"](maps) + block["residual"](maps) if isinstance(block, nn.ModuleDict) else block(maps)
    return maps


def steps(name: str, blocks: nn.ModuleList, start: str, output: str) -> str:
    """The forward pass through the modules of the list `name`, for the `layout` of a generator.

    It is a tuple of steps, of which the last is the result. `start` gives the first feature maps
    and `output` the images of the last ones, `h`.
    """
    each = [f"h := {start}", *(f"h := {_step(f'{name}[{index}]', block)}" for index, block in enumerate(blocks)), output]
    return "(" + ",\n ".join(each) + ")[-1]"


def _step(name: str, block: nn.Module) -> str:
    if isinstance(block, nn.ModuleDict):
        return f'{name}["skip"](h) + {name}["residual"](h)'
    return block.layout(name) if isinstance(block, SelfAttention) else f"{name}(h)"


def width_at(width: int, max_width: int, image_size: int, size: int) -> int:
    """The channels of feature maps of a size.

    They are `width` at the size of the image, twice as many at each halving, and at most
    `max_width`.
    """
    return min(width * (image_size // size), max(width, max_width))
