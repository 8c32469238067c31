"""The resolutions of convolutional players whose depth follows from the image size."""

from omegaconf import DictConfig

from twoplayer.errors import ConfigurationError
from twoplayer.settings import family

IMAGE_SIZES = (16, 28, 32, 64, 128, 256)


def resolutions(image_size: int) -> list[int]:
    """From 4 x 4 (7 x 7 for images of 28) to that of the image, each twice the one before."""
    start = 7 if image_size == 28 else 4
    return [start * 2**stage for stage in range((image_size // start).bit_length())]


def refuse_image_size(config: DictConfig) -> None:
    """Refuse images that such players cannot make. Raises ConfigurationError."""
    size = config.data.image_size
    if size not in IMAGE_SIZES:
        raise ConfigurationError(
            f"data.image_size={size}: model={family(config.model)} takes {', '.join(map(str, IMAGE_SIZES))}; set one of them, or use model=gan"
        )
