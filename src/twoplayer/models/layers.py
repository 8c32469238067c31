"""The layers that families choose among by name."""

from collections.abc import Callable, Mapping
from typing import Literal

from torch import Tensor, nn

Activation = Literal["relu", "leaky_relu", "elu", "gelu", "silu"]
Normalization = Literal["batch", "instance", "layer", "none"]
VectorNormalization = Literal["batch", "layer", "none"]
"""An instance of a vector is one number per channel, which instance normalization would erase."""

_activations: Mapping[str, Callable[[], nn.Module]] = {
    # In place, which spares a pass through memory: what comes before them does not need its output again.
    "relu": lambda: nn.ReLU(inplace=True),
    "leaky_relu": lambda: nn.LeakyReLU(0.2, inplace=True),
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}
_normalizations: Mapping[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "instance": lambda channels: nn.InstanceNorm2d(channels, affine=True),
    "layer": lambda channels: nn.GroupNorm(1, channels),
    "none": lambda channels: nn.Identity(),
}
_vector_normalizations: Mapping[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm1d,
    "layer": nn.LayerNorm,
    "none": lambda size: nn.Identity(),
}


def activation(name: Activation) -> nn.Module:
    """The activation of that name; `leaky_relu` has a slope of 0.2."""
    return _activations[name]()


def normalization(name: Normalization, channels: int) -> nn.Module:
    """The normalization of feature maps (N, channels, H, W); `layer` is over all channels and pixels of an image."""
    return _normalizations[name](channels)


def vector_normalization(name: VectorNormalization, size: int) -> nn.Module:
    """The normalization of vectors (N, size)."""
    return _vector_normalizations[name](size)


def to_logits(outputs: Tensor) -> Tensor:
    """One output per image as logits (N), several as they are (N, num_outputs)."""
    return outputs.squeeze(1) if outputs.shape[1] == 1 else outputs
