"""The layers that models choose by name, and what several models compute."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

Activation = Literal["relu", "leaky_relu", "elu", "gelu", "silu"]
OutputActivation = Literal["tanh", "sigmoid"]
Normalization = Literal["batch", "instance", "layer", "none"]
VectorNormalization = Literal["batch", "layer", "none"]
"""No instance normalization: a vector has one number per channel, which it would erase."""

_activations: Mapping[str, Callable[[bool], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda in_place: nn.LeakyReLU(0.2, in_place),
    "elu": lambda in_place: nn.ELU(),
    "gelu": lambda in_place: nn.GELU(),
    "silu": lambda in_place: nn.SiLU(),
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


def activation(name: Activation, in_place: bool = False) -> nn.Module:
    """The activation of this name; `leaky_relu` has a slope of 0.2.

    `in_place` lets relu and leaky_relu overwrite their input, which saves a pass through memory.
    Use it only if nothing else needs the input, as a residual sum would.
    """
    return _activations[name](in_place)


def fully_connected(sizes: Sequence[int], activation_name: Activation, normalization_name: VectorNormalization) -> nn.Sequential:
    """Vectors (N, sizes[0]) to vectors (N, sizes[-1]); none of the layers is a last one."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [
            nn.Linear(inputs, outputs),
            vector_normalization(normalization_name, outputs),
            activation(activation_name, in_place=True),
        ]
    return nn.Sequential(*layers)


def to_images(outputs: Tensor, name: OutputActivation) -> Tensor:
    """Numbers of any size to images in [-1, 1].

    They are mapped by tanh, or by a stretched sigmoid, which is tanh at half the slope.
    """
    return outputs.tanh() if name == "tanh" else 2 * outputs.sigmoid() - 1


def images_of(outputs: str, name: OutputActivation) -> str:
    """`to_images` as an expression of plain torch."""
    return f"{outputs}.tanh()" if name == "tanh" else f"(2 * {outputs}.sigmoid() - 1)"


def normalization(name: Normalization, channels: int) -> nn.Module:
    """The normalization of feature maps (N, channels, H, W).

    `layer` normalizes over all channels and pixels of an image.
    """
    return _normalizations[name](channels)


def vector_normalization(name: VectorNormalization, size: int) -> nn.Module:
    """The normalization of vectors (N, size)."""
    return _vector_normalizations[name](size)


class Decoder(nn.Module):
    """The second half of an autoencoder discriminator: from features to a code to an image."""

    def __init__(self, code: nn.Module, images: nn.Module) -> None:
        super().__init__()
        self.code, self.images = code, images

    def forward(self, images: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Negative energies (N) and codes (N, code_size).

        An energy is the Euclidean norm of the error over all pixels.
        """
        codes = self.code(features)
        errors = (self.images(codes, None) - images).flatten(1).float()
        # Without the constant, the slope would be unbounded where the error is zero.
        return -(errors.square().sum(1) + 1e-6).sqrt(), codes


def to_logits(outputs: Tensor) -> Tensor:
    """One output per image as logits (N); several unchanged, (N, num_outputs)."""
    return outputs.squeeze(1) if outputs.shape[1] == 1 else outputs


def psnr(images: Tensor, others: Tensor) -> Tensor:
    """The peak signal-to-noise ratio (N) of images in [-1, 1] against others, in dB."""
    errors = (images.float() - others.float()).flatten(1).square().mean(1)
    return 10 * torch.log10(4 / errors.clamp(min=1e-10))
