"""DCGAN (Radford, Metz and Chintala, 2016, arXiv:1511.06434), by its five guidelines.

- strided and transposed convolutions instead of pooling
- batch normalization, except at G's output and D's input
- no hidden fully connected layers: G starts with a projection, D ends with a linear layer, unless
  `hidden_widths` puts some before G's projection and D's last layer
- ReLU and a final tanh in G
- LeakyReLU in D
"""

from typing import Annotated, Literal

from annotated_types import Ge
from omegaconf import DictConfig
from torch import Tensor, nn

from twoplayer.errors import ConfigurationError
from twoplayer.models.base import Model
from twoplayer.models.conditioning import (
    DiscriminatorCondition,
    DiscriminatorConditioning,
    GeneratorCondition,
    GeneratorConditioning,
    in_sequence,
    normalization_per_class,
    refuse_conditioning,
    sequence_layout,
)
from twoplayer.models.layers import (
    Activation,
    Decoder,
    Normalization,
    OutputActivation,
    activation,
    fully_connected,
    images_of,
    normalization,
    to_images,
    to_logits,
)
from twoplayer.models.resolutions import refuse_image_size
from twoplayer.settings import family

Size = Annotated[int, Ge(1)]
Downsampling = Literal["strided", "average", "max"]
Upsampling = Literal["transposed", "pixel_shuffle", "nearest"]


class Generator(nn.Module):
    """Latents (N, latent_size) to images (N, channels, image_size, image_size).

    Fully connected layers of `hidden_widths` come first. The maps start at 4 x 4 (7 x 7 for images
    of 28). Each stage doubles the resolution and halves the channels, down to `width` channels at
    full resolution.
    """

    def __init__(
        self,
        *,
        latent_size: Size,
        hidden_widths: list[Size],
        width: Size,
        channels: Size,
        image_size: int,
        activation: Activation,
        normalization: Normalization,
        upsampling: Upsampling,
        output_activation: OutputActivation,
        conditioning: GeneratorConditioning,
        num_classes: Size,
    ) -> None:
        super().__init__()
        self.latent_size, self.output_activation = latent_size, output_activation
        self.start = 7 if image_size == 28 else 4
        num_stages = (image_size // self.start).bit_length() - 1
        maps = width * 2**num_stages
        self.condition = None if conditioning == "none" else GeneratorCondition(conditioning, num_classes, latent_size)
        inputs = self.condition.size if self.condition else latent_size
        per_class = num_classes if conditioning == "batch_norm" else None
        sizes = [inputs, *hidden_widths]
        self.hidden = fully_connected(sizes, "leaky_relu", "none")
        self.projection = nn.Linear(sizes[-1], maps * self.start**2, bias=normalization == "none")
        layers = _normalized(maps, normalization, activation, per_class)
        for _ in range(num_stages):
            layers += [
                *_double(maps, maps // 2, upsampling, bias=normalization == "none"),
                *_normalized(maps // 2, normalization, activation, per_class),
            ]
            maps //= 2
        self.convolutions = in_sequence(layers)
        self.output = nn.Conv2d(maps, channels, 3, 1, 1)

    @property
    def layout(self) -> str:
        """See `Model`."""
        values = self.condition.layout if self.condition else "z"
        values = f"hidden({values})" if self.hidden else values
        maps = f"projection({values}).unflatten(1, ({self.start}, {self.start}, -1)).permute(0, 3, 1, 2)"
        return images_of(f"output({sequence_layout(self.convolutions, 'convolutions', maps)})", self.output_activation)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Images in [-1, 1]."""
        values, *classes = self.condition(latents, labels) if self.condition else (latents,)
        return to_images(self.output(self.convolutions(self.first_maps(values), *classes)), self.output_activation)

    def first_maps(self, values: Tensor) -> Tensor:
        """What the convolutions get (N, C, start, start), of latents or of latents and class.

        Channels come last in memory, the order in which convolutions are fastest.
        """
        maps: Tensor = self.projection(self.hidden(values))
        return maps.unflatten(1, (self.start, self.start, -1)).permute(0, 3, 1, 2)


class Discriminator(nn.Module):
    """Images to logits.

    Each stage halves the resolution, down to 4 x 4, and doubles the channels, starting with
    `width`. Fully connected layers of `hidden_widths` come last.

    An autoencoder continues to a code of `code_size` numbers and back through a generator's layers;
    its logit is the negative energy.
    """

    def __init__(
        self,
        *,
        width: Size,
        hidden_widths: list[Size],
        channels: Size,
        packs: Size,
        image_size: int,
        activation: Activation,
        normalization: Normalization,
        downsampling: Downsampling,
        autoencoder: bool,
        code_size: Size,
        num_outputs: Size,
        conditioning: DiscriminatorConditioning,
        num_classes: Size,
    ) -> None:
        super().__init__()
        self.num_outputs = num_outputs
        inputs = packs * channels + (conditioning == "concatenate")
        self.convolutions, num_maps = halving(inputs, width, image_size, normalization, downsampling, activation)
        self.hidden = fully_connected([num_maps, *hidden_widths], activation, "none")
        num_features = [num_maps, *hidden_widths][-1]
        self.output: nn.Module = nn.Linear(num_features, num_outputs)
        self.condition = DiscriminatorCondition(conditioning, num_classes, image_size, num_features)
        if autoencoder:
            decoder = Generator(
                latent_size=code_size,
                hidden_widths=hidden_widths[::-1],
                width=max(width // 2, 1),
                channels=packs * channels,
                image_size=image_size,
                activation="relu",
                normalization=normalization,
                upsampling="transposed",
                output_activation="tanh",
                conditioning="none",
                num_classes=num_classes,
            )
            self.output = Decoder(nn.Linear(num_features, code_size), decoder)

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and features: the last feature maps, flattened, or the last hidden layer.

        An autoencoder's features are its code.
        """
        features = self.features(self.condition.images(images, labels))
        if isinstance(self.output, Decoder):
            return self.output(images, features)
        return self.condition.logits(to_logits(self.output(features)), features, labels), features

    def features(self, inputs: Tensor) -> Tensor:
        """What the last layer gets (N, F), of images or of images and class."""
        features: Tensor = self.hidden(self.convolutions(inputs))
        return features


class DCGAN(Model):
    """Convolutional players whose depth follows from the image size."""

    def __init__(self, generator: Generator, discriminator: Discriminator) -> None:
        super().__init__(generator, discriminator)

    @staticmethod
    def refuse(config: DictConfig) -> None:
        refuse_image_size(config)
        refuse_conditioning(config)


def refuse_autoencoder(config: DictConfig) -> None:
    """Refuse an autoencoder as the discriminator of a family that needs other outputs."""
    if config.model.discriminator.autoencoder:
        raise ConfigurationError(
            f"model.discriminator.autoencoder=true: model={family(config.model)} needs a discriminator with a logit; "
            "set it to false, and loss=non_saturating or another one without an autoencoder"
        )


def halving(
    channels: int,
    width: int,
    image_size: int,
    chosen: Normalization,
    downsampling: Downsampling,
    activation_name: Activation = "leaky_relu",
) -> tuple[nn.Sequential, int]:
    """Convolutions from images to vectors, and the size of these.

    Each stage halves the resolution, down to 4 x 4, and doubles the channels, starting with
    `width`. The first one is not normalized.
    """
    layers: list[nn.Module] = []
    maps, size = channels, image_size
    while size > 4:
        outputs = 2 * maps if layers else width
        each: Normalization = chosen if layers else "none"
        layers += [*_halve(maps, outputs, size, downsampling, bias=each == "none"), *_normalized(outputs, each, activation_name)]
        maps, size = outputs, (size + 1) // 2
    return nn.Sequential(*layers, nn.Flatten()), maps * size**2


def _normalized(maps: int, normalization_name: Normalization, activation_name: Activation, per_class: int | None = None) -> list[nn.Module]:
    """`per_class` is the number of classes if normalization depends on them."""
    chosen = normalization_per_class(per_class, maps, vectors=False) if per_class else normalization(normalization_name, maps)
    return [chosen, activation(activation_name, in_place=True)]


def _double(inputs: int, outputs: int, upsampling: Upsampling, bias: bool) -> list[nn.Module]:
    if upsampling == "transposed":
        return [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=bias)]
    if upsampling == "pixel_shuffle":
        return [nn.Conv2d(inputs, 4 * outputs, 3, 1, 1, bias=bias), nn.PixelShuffle(2)]
    return [nn.Upsample(scale_factor=2), nn.Conv2d(inputs, outputs, 3, 1, 1, bias=bias)]


def _halve(inputs: int, outputs: int, size: int, downsampling: Downsampling, bias: bool) -> list[nn.Module]:
    """Odd sizes are rounded up: 7 becomes 4."""
    if downsampling == "strided":
        return [nn.Conv2d(inputs, outputs, 3 if size % 2 else 4, 2, 1, bias=bias)]
    pool = nn.AvgPool2d if downsampling == "average" else nn.MaxPool2d
    return [nn.Conv2d(inputs, outputs, 3, 1, 1, bias=bias), pool(2, ceil_mode=True)]
