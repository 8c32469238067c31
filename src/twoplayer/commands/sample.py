"""Writing samples of a run as pictures and tensors."""

from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Gt
from safetensors.torch import save_file

from twoplayer import pictures
from twoplayer.paths import make_folder
from twoplayer.runs.saved import home, load


def write_samples(
    *,
    run: str,
    num: Annotated[int, Gt(0)],
    seed: Annotated[int, Ge(0)],
    columns: Annotated[int, Gt(0)],
    output: str | None,
    single_files: bool,
    safetensors: bool,
    interpolate: bool,
) -> None:
    """Write samples of a run as one grid and print the paths of all files.

    Optionally also writes single PNG files and one .safetensors file of uint8 (N, C, H, W). With
    `interpolate`, each row of the grid interpolates between two samples, and `num` is rounded up to
    whole rows.
    """
    generator = load(run)
    images = pictures.to_uint8(generator.interpolate(-(-num // columns), columns, seed) if interpolate else generator(num, seed))
    folder = Path(output or home(run) / "generated")
    make_folder("output", folder)
    way = "_interpolated" if interpolate else ""
    path = folder / f"seed{seed}_{num}{way}.png"
    pictures.grid(images, columns).save(path)
    print(path)
    if single_files:
        singles = folder / f"seed{seed}{way}"
        singles.mkdir(exist_ok=True)
        for index, image in enumerate(images):
            pictures.picture(image).save(singles / f"{index:06}.png")
        print(singles)
    if safetensors:
        save_file({"images": images}, path.with_suffix(".safetensors"))
        print(path.with_suffix(".safetensors"))
