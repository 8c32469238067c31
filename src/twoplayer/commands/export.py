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

ONNX = "generator.onnx"
TEXT = "README.md"
TOLERANCE = 1e-4  # of pixels in [-1, 1]: runtimes sum in different orders


class Sampler(nn.Module):
    """The generator with the tricks' map of latents, as used for samples."""

    def __init__(self, saved: SavedGenerator) -> None:
        super().__init__()
        self.tricks, self.generator = saved.game.tricks, sampling_generator(saved.game)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] of normal latents (N, latent_size) and labels (N,)."""
        images: Tensor = self.generator(self.tricks.latents(latents), labels)
        return images


def write_export(*, run: str, output: str | None, onnx: bool) -> None:
    """Write `generator.safetensors`, `config.yaml`, README.md and optionally `generator.onnx`.

    The weights are read back and compared with the generator. Both files hold the facts of
    `describe` as metadata.

    Raises TwoplayerError if the ONNX graph gives other images, and ConfigurationError if the model
    translates images.
    """
    saved = load(run)
    if saved.game.model.translates:
        raise ConfigurationError(
            f"run={run}: its generator translates images, and only generators of latents are exported; use twoplayer.load in Python"
        )
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
    differences = {EXPORTED: (load(folder)(16) - saved(16)).abs().max().item()}
    inputs: list[str] = []
    if onnx:
        differences[ONNX], inputs = _write_onnx(saved, facts, folder / ONNX)
    (folder / TEXT).write_text(explanation(facts, str(generator), inputs, saved.num_classes))
    table = Table(box=None)
    for title in ("file", "bytes", "largest pixel difference"):
        table.add_column(title, justify="left" if title == "file" else "right")
    for name, difference in differences.items():
        table.add_row(str(folder / name), f"{(folder / name).stat().st_size:,}", f"{difference:.1e}")
    Console().print(table)


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
        "output_shape": f"(N, {', '.join(map(str, saved(2).shape[1:]))})",
        "output_range": "[-1, 1]",
        "layout": str(generator.layout),
    }


def _command(folder: Path) -> str:
    """The command of a run, from the overrides that Hydra saved."""
    try:
        asked = [str(override) for override in OmegaConf.load(folder / ".hydra" / "overrides.yaml")]
    except Exception:  # missing or unreadable: the export does not depend on it
        return "unknown"
    return shlex.join(["python", "src/train.py", *asked])


def _known(file: Path) -> dict[str, str]:
    """The run and its command from the metadata, if an export is exported again."""
    if not file.is_file():
        return {}
    with safe_open(file, "pt") as content:
        return {name: value for name, value in (content.metadata() or {}).items() if name in ("run", "command")}


def _write_onnx(saved: SavedGenerator, facts: dict[str, str], path: Path) -> tuple[float, list[str]]:
    """Write the ONNX graph; return its largest pixel difference and the names of its inputs.

    It is compared with the generator on other inputs, and another number of them, than it was
    traced with. Labels are an input only if the images depend on them.
    """
    import onnxruntime

    game, sampler = saved.game, Sampler(saved).eval()

    def inputs(num: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(num)
        return torch.randn(num, game.model.latent_size, generator=generator), game.labels(num)

    batch = torch.export.Dim("batch")
    with _silence():
        program = torch.onnx.export(
            sampler,
            inputs(2),
            input_names=["latents", "labels"],
            output_names=["images"],
            dynamic_shapes={"latents": {0: batch}, "labels": {0: batch}},
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        graph = program.model.graph
        for unused in [value for value in graph.inputs if value.name == "labels" and not value.uses()]:
            graph.inputs.remove(unused)
        program.model.metadata_props.update(facts)
        program.save(path, external_data=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    latents, labels = inputs(16)
    given = {"latents": latents.numpy(), "labels": labels.numpy()}
    (images,) = session.run(None, {name: given[name] for name in names})
    with torch.no_grad():
        difference = float(np.abs(images - sampler(latents, labels).numpy()).max())
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


def explanation(facts: dict[str, str], layers: str, inputs: list[str], num_classes: int | None) -> str:
    """The README.md of an export; `inputs` are those of the ONNX graph, empty if there is none.

    `num_classes` is None if the generator knows no classes.
    """
    labels = f', "labels": np.arange(64) % {num_classes}' if "labels" in inputs else ""
    told = f" and labels from 0 to {num_classes - 1}" if num_classes else ""
    one_hot = f" and one-hot classes `y` (N, {num_classes}) in float32" if num_classes else ""
    chosen = ", labels=[0]" if num_classes else ""
    size, mapped = facts["latent_size"], "mapped to" in facts["latent_distribution"]
    with_onnx = f"""
## ONNX

```python
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession("{ONNX}")
latents = np.random.default_rng(0).standard_normal((64, {size}), dtype=np.float32)
(images,) = session.run(None, {{"latents": latents{labels}}})
```

The input is standard normal{", and the graph maps it to the latents that the generator was trained with" if mapped else ""}.
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
import twoplayer
from twoplayer.pictures import grid, to_uint8
generator = twoplayer.load(".")  # this folder
images = generator(64, seed=1{chosen})
grid(to_uint8(images), columns=8).save("samples.png")
```

## Plain PyTorch

`{EXPORTED}` is the state dict of these modules, by name:

```
{layers}
```

The images of latents `z` (N, {size}) with the distribution above{one_hot}, in evaluation mode:

```
{facts["layout"]}
```
{PROJECTION if ".permute(0, 3, 1, 2)" in facts["layout"] else ""}"""


PROJECTION = """
Mind the order of the projection's outputs: all channels of the first pixel, then all channels of the next pixel of the same row.
A `view(N, channels, height, width)` accepts the same weights but gives other images.
"""
