"""A generator on its own: its weights as safetensors, and as ONNX for what does not run Python."""

from pathlib import Path

import numpy as np
import torch
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file
from torch import Tensor, nn

from twoplayer.errors import TwoplayerError
from twoplayer.saved import EXPORTED, SavedGenerator, home, load, sampling_generator

ONNX = "generator.onnx"
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
    """Write `generator.safetensors` with its `config.yaml`, and `generator.onnx`; each is read back and compared with the generator.

    Raises TwoplayerError where what was written gives other images.
    """
    saved = load(run)
    folder = Path(output or home(run) / "export")
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(saved.config, folder / "config.yaml")
    save_file({name: tensor.contiguous() for name, tensor in sampling_generator(saved.game).state_dict().items()}, folder / EXPORTED)
    differences = {EXPORTED: (load(folder)(16) - saved(16)).abs().max().item()}
    if onnx:
        differences[ONNX] = _write_onnx(saved, folder / ONNX)
    table = Table(box=None)
    for title in ("file", "bytes", "largest difference of a pixel"):
        table.add_column(title, justify="left" if title == "file" else "right")
    for name, difference in differences.items():
        table.add_row(str(folder / name), f"{(folder / name).stat().st_size:,}", f"{difference:.1e}")
    Console().print(table)


def _write_onnx(saved: SavedGenerator, path: Path) -> float:
    """Returns the largest difference of a pixel, on other inputs and another number of them than those the export has seen."""
    import onnxruntime

    game, sampler = saved.game, Sampler(saved).eval()

    def inputs(num: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(num)
        return torch.randn(num, game.model.latent_size, generator=generator), torch.arange(num) % game.num_classes

    batch = torch.export.Dim("batch")
    torch.onnx.export(
        sampler,
        inputs(2),
        path,
        input_names=["latents", "labels"],
        output_names=["images"],
        dynamic_shapes={"latents": {0: batch}, "labels": {0: batch}},
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    latents, labels = inputs(16)
    (images,) = session.run(None, {"latents": latents.numpy(), "labels": labels.numpy()})
    with torch.no_grad():
        difference = float(np.abs(images - sampler(latents, labels).numpy()).max())
    if not difference <= TOLERANCE:
        raise TwoplayerError(f"{path} gives other images than the generator (a pixel differs by {difference:.1e})")
    return difference
