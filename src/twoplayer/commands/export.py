"""Exporting a generator: safetensors, ONNX, and a README that shows how to use both."""

import logging
import shlex
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from twoplayer import __version__
from twoplayer.errors import ConfigurationError, TwoplayerError
from twoplayer.paths import make_folder
from twoplayer.runs.saved import EXPORTED, SavedGenerator, home, load, sampling_generator
from twoplayer.settings import family
from twoplayer.storage.run_folder import read_overrides

ONNX = "generator.onnx"
TEXT = "README.md"
TOLERANCE = 1e-4  # of pixels in [-1, 1]: runtimes sum in different orders


class Sampler(nn.Module):
    """The generator with the tricks' map of latents, as used for samples."""

    def __init__(self, saved: SavedGenerator) -> None:
        super().__init__()
        self.tricks, self.generator = saved.game.tricks, sampling_generator(saved.game)

    def forward(self, latents: Tensor, told: Tensor) -> Tensor:
        """Images in [-1, 1] of normal latents (N, latent_size), and labels or sources."""
        images: Tensor = self.generator(self.tricks.latents(latents), told)
        return images


def write_export(*, run: str, output: str | None, onnx: bool) -> None:
    """Write `generator.safetensors`, `config.yaml`, README.md and optionally `generator.onnx`.

    The weights are read back and compared with the generator. Both files hold the facts of
    `describe` as metadata.

    Raises TwoplayerError if the ONNX graph gives other images, and ConfigurationError if the model
    draws images place by place.
    """
    saved = load(run)
    if sampling_generator(saved.game).layout is None:
        raise ConfigurationError(
            f"run={run}: model={family(saved.config.model)} draws one place after the other, and only single passes are exported; use twoplayer.load in Python"
        )
    folder = Path(output or home(run) / "export")
    make_folder("output", folder)
    facts = describe(saved, run)
    generator = sampling_generator(saved.game)
    OmegaConf.save(saved.config, folder / "config.yaml")
    save_file({name: tensor.contiguous() for name, tensor in generator.state_dict().items()}, folder / EXPORTED, facts)
    differences = {EXPORTED: (_drawn(load(folder)) - _drawn(saved)).abs().max().item()}
    inputs: list[str] = []
    if onnx:
        differences[ONNX], inputs = _write_onnx(saved, facts, folder / ONNX)
    (folder / TEXT).write_text(explanation(facts, str(generator), inputs, saved.num_classes, _source_shape(saved)))
    table = Table(box=None)
    for title in ("file", "bytes", "largest pixel difference"):
        table.add_column(title, justify="left" if title == "file" else "right")
    for name, difference in differences.items():
        table.add_row(str(folder / name), f"{(folder / name).stat().st_size:,}", f"{difference:.1e}")
    Console().print(table)


def _source_shape(saved: SavedGenerator) -> tuple[int, ...] | None:
    return saved.source_shape if saved.game.model.translates else None


def _drawn(saved: SavedGenerator) -> Tensor:
    """Sixteen images; those of a model that translates are made from random sources."""
    shape = _source_shape(saved)
    return saved(16) if shape is None else saved(sources=_sources(16, shape))


def _sources(num: int, shape: tuple[int, ...]) -> Tensor:
    return 2 * torch.rand(num, *shape, generator=torch.Generator().manual_seed(num)) - 1


def describe(saved: SavedGenerator, run: str) -> dict[str, str]:
    """The metadata of both files: run, command, version, weights, latents and output."""
    game = saved.game
    generator = sampling_generator(game)
    steps = [f"mapped to {prior}" for prior in game.tricks.priors]
    return {
        "run": home(run).resolve().name,
        "command": _command(home(run)),
        **_known(Path(run) / EXPORTED),
        "twoplayer_version": __version__,
        "weights": "raw" if generator is game.model.generator else "averaged",
        "latent_size": str(game.model.latent_size),
        "latent_distribution": ", ".join(["standard normal z", *steps]),
        "latents_of_onnx": f"standard normal{'; the graph maps them' if steps else ''}",
        "latents_of_safetensors": "as latent_distribution says" if steps else "standard normal",
        "output_shape": f"(N, {', '.join(map(str, _drawn(saved).shape[1:]))})",
        "output_range": "[-1, 1]",
        "layout": str(generator.layout),
    }


def _command(folder: Path) -> str:
    asked = read_overrides(folder)
    return "unknown" if asked is None else shlex.join(["python", "src/train.py", *asked])


def _known(file: Path) -> dict[str, str]:
    """The run and its command from the metadata, if an export is exported again."""
    if not file.is_file():
        return {}
    with safe_open(file, "pt") as content:
        return {name: value for name, value in (content.metadata() or {}).items() if name in ("run", "command")}


def _write_onnx(saved: SavedGenerator, facts: dict[str, str], path: Path) -> tuple[float, list[str]]:
    """Write the ONNX graph; return its largest pixel difference and the names of its inputs.

    It is compared with the generator on other inputs, and another number of them, than it was
    traced with. Latents, labels and sources are inputs only if the images depend on them.
    """
    import onnxruntime

    game, sampler, shape = saved.game, Sampler(saved).eval(), _source_shape(saved)
    titles = ["latents", "labels" if shape is None else "sources"]

    def inputs(num: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(num)
        told = game.labels(num) if shape is None else _sources(num, shape)
        return torch.randn(num, game.model.latent_size, generator=generator), told

    batch = torch.export.Dim("batch")
    with _silence():
        program = torch.onnx.export(
            sampler,
            inputs(2),
            input_names=titles,
            output_names=["images"],
            dynamic_shapes={"latents": {0: batch}, "told": {0: batch}},
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        graph = program.model.graph
        for unused in [value for value in graph.inputs if not value.uses()]:
            graph.inputs.remove(unused)
        program.model.metadata_props.update(facts)
        program.save(path, external_data=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    given = inputs(16)
    (images,) = session.run(None, {name: part.numpy() for name, part in zip(titles, given, strict=True) if name in names})
    with torch.no_grad():
        difference = float(np.abs(images - sampler(*given).numpy()).max())
    if not difference <= TOLERANCE:
        raise TwoplayerError(
            f"{path} does not reproduce the images of the generator (a pixel differs by {difference:.1e}); export with onnx=false"
        )
    return difference, names


@contextmanager
def _silence() -> Iterator[None]:
    """Silence the exporter, which logs every pass and warns about unused names.

    The result is compared afterwards.
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def explanation(
    facts: dict[str, str], layers: str, inputs: list[str], num_classes: int | None, source_shape: tuple[int, ...] | None = None
) -> str:
    """The README.md of an export; `inputs` are those of the ONNX graph, empty if there is none.

    `num_classes` is None if the generator knows no classes, `source_shape` if it translates no
    images.
    """
    size, mapped = facts["latent_size"], "mapped to" in facts["latent_distribution"]
    made = {
        "latents": f"np.random.default_rng(0).standard_normal((64, {size}), dtype=np.float32)",
        "labels": f"np.arange(64) % {num_classes}",
        "sources": f"np.zeros((64, {', '.join(map(str, source_shape or ()))}), dtype=np.float32)",
    }
    fed = ", ".join(f'"{name}": {name}' for name in inputs)
    told = f" and labels from 0 to {num_classes - 1}" if num_classes else ""
    other = f" and one-hot classes `y` (N, {num_classes}) in float32" if num_classes else ""
    if source_shape is not None:
        shape = f"(N, {', '.join(map(str, source_shape))})"
        told, other = f" and source images {shape} in [-1, 1]", f" and source images `y` {shape}"
    chosen = ", labels=[0]" if num_classes else ""
    arguments = f"64, seed=1{chosen}" if source_shape is None else "sources=sources, seed=1"
    sources = (
        "" if source_shape is None else f"sources = torch.zeros(64, {', '.join(map(str, source_shape))})  # images of yours, in [-1, 1]\n"
    )
    latents_are = (
        f"Latents are standard normal{', and the graph maps them to those that the generator was trained with' if mapped else ''}."
    )
    new_line = "\n"
    with_onnx = f"""
## ONNX

```python
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession("{ONNX}")
{new_line.join(f"{name} = {made[name]}" for name in inputs)}
(images,) = session.run(None, {{{fed}}})
```

{latents_are if "latents" in inputs else "This generator uses no latents."}
"""
    return f"""# {facts["run"]}

A generator of images {facts["output_shape"]} in {facts["output_range"]} from latents of size {size}{told}, with {facts["weights"]} weights. Latents: {facts["latent_distribution"]}.
Made with twoplayer {facts["twoplayer_version"]} by

```
{facts["command"]}
```

The metadata of the files contains the same facts.
{with_onnx if inputs else ""}
## twoplayer

```python
{"import torch" + new_line if sources else ""}import twoplayer
from twoplayer.pictures import grid, to_uint8
generator = twoplayer.load(".")  # this folder
{sources}images = generator({arguments})
grid(to_uint8(images), columns=8).save("samples.png")
```

## Plain PyTorch

`{EXPORTED}` is the state dict of these modules, by name:

```
{layers}
```

The images of latents `z` (N, {size}) with the distribution above{other}, in evaluation mode:

```
{facts["layout"]}
```
{PROJECTION if ".permute(0, 3, 1, 2)" in facts["layout"] else ""}"""


PROJECTION = """
Mind the order of the projection's outputs: all channels of the first pixel, then all channels of the next pixel of the same row.
A `view(N, channels, height, width)` accepts the same weights but gives other images.
"""
