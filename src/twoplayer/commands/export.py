"""A generator on its own: its weights as safetensors, and as ONNX for what does not run Python, with a text that says how to use both."""

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
from twoplayer.errors import TwoplayerError
from twoplayer.paths import make_folder
from twoplayer.runs.saved import EXPORTED, SavedGenerator, home, load, sampling_generator

ONNX = "generator.onnx"
TEXT = "README.md"
TOLERANCE = 1e-4  # of pixels in [-1, 1]: another runtime adds in another order


class Sampler(nn.Module):
    """From standard normal latents to images, as samples are drawn."""

    def __init__(self, saved: SavedGenerator) -> None:
        super().__init__()
        self.tricks, self.generator = saved.game.tricks, sampling_generator(saved.game)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] of latents (N, latent_size) and labels (N)."""
        images: Tensor = self.generator(self.tricks.latents(latents), labels)
        return images


def write_export(*, run: str, output: str | None, onnx: bool) -> None:
    """Write `generator.safetensors` with its `config.yaml`, and `generator.onnx`; each is read back and compared with the generator. Both
    hold what there is to know about them as metadata, and a README.md beside them says how to use them.

    Raises TwoplayerError where what was written gives other images.
    """
    saved = load(run)
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
    (folder / TEXT).write_text(explanation(facts, str(generator), inputs, saved.game.num_classes))
    table = Table(box=None)
    for title in ("file", "bytes", "largest difference of a pixel"):
        table.add_column(title, justify="left" if title == "file" else "right")
    for name, difference in differences.items():
        table.add_row(str(folder / name), f"{(folder / name).stat().st_size:,}", f"{difference:.1e}")
    Console().print(table)


def describe(saved: SavedGenerator, run: str) -> dict[str, str]:
    """The metadata of both files."""
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
    """What a run was made by, as Hydra has noted it."""
    try:
        asked = [str(override) for override in OmegaConf.load(folder / ".hydra" / "overrides.yaml")]
    except Exception:  # no such file, or one that cannot be read: the export does not depend on it
        return "unknown"
    return shlex.join(["python", "src/train.py", *asked])


def _known(file: Path) -> dict[str, str]:
    """The run and its command, where what is exported was exported before."""
    if not file.is_file():
        return {}
    with safe_open(file, "pt") as content:
        return {name: value for name, value in (content.metadata() or {}).items() if name in ("run", "command")}


def _write_onnx(saved: SavedGenerator, facts: dict[str, str], path: Path) -> tuple[float, list[str]]:
    """Returns the largest difference of a pixel, on other inputs and another number of them than those the export has seen, and the names
    of the graph's inputs: labels are one of them only where the images depend on them.
    """
    import onnxruntime

    game, sampler = saved.game, Sampler(saved).eval()

    def inputs(num: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(num)
        return torch.randn(num, game.model.latent_size, generator=generator), torch.arange(num) % game.num_classes

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
        raise TwoplayerError(f"{path} gives other images than the generator (a pixel differs by {difference:.1e})")
    return difference, names


@contextmanager
def _silence() -> Iterator[None]:
    """The exporter tells of every pass over its graph, and warns of names that it does not use; what matters is compared afterwards."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def explanation(facts: dict[str, str], layers: str, inputs: list[str], num_classes: int) -> str:
    """How to use the files, as Markdown; `inputs` are those of the ONNX graph, none where there is no such file."""
    labels = f', "labels": np.arange(64) % {num_classes}' if "labels" in inputs else ""
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

The input is standard normal{", and the graph itself maps it to the latents the generator was trained with" if mapped else ""}.
"""
    return f"""# {facts["run"]}

A generator of images {facts["output_shape"]} in {facts["output_range"]} from {size} latents each, with {facts["weights"]} weights. Latents: {facts["latent_distribution"]}.
Made with twoplayer {facts["twoplayer_version"]} by

```
{facts["command"]}
```

The metadata of the files holds these facts too.
{with_onnx if inputs else ""}
## twoplayer

```python
import twoplayer
from twoplayer.pictures import grid, to_uint8
generator = twoplayer.load(".")  # this folder
images = generator(64, seed=1)
grid(to_uint8(images), columns=8).save("samples.png")
```

## Plain PyTorch

`{EXPORTED}` is the state dict of these modules, by name:

```
{layers}
```

The images of latents `z` (N, {size}), distributed as said above, in evaluation mode:

```
{facts["layout"]}
```
{PROJECTION if "unflatten" in facts["layout"] else ""}"""


PROJECTION = """
Mind the order of the projection's outputs: they are all channels of the first pixel, then all channels of the next pixel of the same row.
A `view(N, channels, height, width)` of them loads the same weights and gives other images.
"""
