"""Writing the projections of given images: what a generator can draw of them, and from where."""

from pathlib import Path
from typing import Annotated

from annotated_types import Ge, MinLen
from safetensors.torch import save_file

from twoplayer import pictures
from twoplayer.data.base import Data, to_unit_range
from twoplayer.data.progress import followed
from twoplayer.data.samples import read_samples
from twoplayer.errors import ConfigurationError
from twoplayer.metrics import recorded
from twoplayer.paths import make_folder, shown
from twoplayer.runs.projection import project
from twoplayer.runs.saved import home, load_for
from twoplayer.settings import family

TEST = "test"
SHOWN = 12


def write_projection(
    *,
    run: str,
    data: Data,
    images: Annotated[str, MinLen(1)],
    num: Annotated[int, Ge(1)],
    restarts: Annotated[int, Ge(1)],
    steps: Annotated[int, Ge(1)],
    seed: Annotated[int, Ge(0)],
    output: Annotated[str, MinLen(1)] | None,
) -> None:
    """Project the first `num` images, and print the paths of a picture and of the latents.

    The picture has the images above what the generator draws. Images of another size are resized.
    Raises ConfigurationError if the run was trained on other data, or has no images; DataError if
    the images cannot be read.
    """
    generator = load_for(run, data)
    given = (
        to_unit_range(data.splits.test.images)
        if images == TEST
        else read_samples(Path(images), tuple(data.splits.test.images.shape[1:]), "images", least=1)
    )
    given = given[:num].float()
    if given.ndim != 4:
        raise ConfigurationError(
            f"data={family(generator.config.data)}: only images are projected, and an example of these data is {list(given.shape[1:])}"
        )
    classes = len(generator.game.classes) if generator.num_classes is not None else 1
    each = f"{restarts} searches" if classes == 1 else f"{restarts} searches for each of {classes} classes"
    print(f"{len(given)} images, {each}, {steps} steps; fewer are faster: num=4 restarts=1", flush=True)
    moments = followed(range(steps), steps, "projecting")
    found = project(generator, given, restarts=restarts, steps=steps, seed=seed, say=lambda step: next(moments, None))
    folder = Path(output or home(run) / "projection")
    make_folder("output", folder)
    rows = [pictures.grid(pictures.as_images(each[:SHOWN]), SHOWN) for each in (given, found.images.cpu())]
    pictures.filmstrip([("given", rows[0])], ("drawn", rows[1])).save(folder / "projection.png")
    tensors = {"latents": found.latents.cpu(), "errors": found.errors.cpu()}
    save_file(tensors | ({"labels": found.labels.cpu()} if generator.num_classes is not None else {}), folder / "latents.safetensors")
    middle = recorded.digits(float(found.errors.median()))
    print(f"difference of pixels in [-1, 1], root mean square: median {middle}, largest {recorded.digits(float(found.errors.max()))}")
    print(shown(folder / "projection.png"))
    print(shown(folder / "latents.safetensors"))
