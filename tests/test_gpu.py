"""What only a CUDA GPU shows: a run on it, and updates that are replayed as CUDA graphs."""

from pathlib import Path

import pytest
import torch

import twoplayer
from helpers.games import play, state_sha256
from twoplayer.storage import checkpoints

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")]

RUN = ["trainer=gpu", "trick=[ema]", "budget.images=320"]


def test_the_default_model_trains_on_a_gpu(tmp_path: Path) -> None:
    summary = play(tmp_path / "run", *RUN, "precision=auto", model="dcgan")
    assert summary["status"] == "finished"
    assert summary["images_seen"] == 320


def test_a_run_on_a_gpu_resumes_exactly(tmp_path: Path) -> None:
    play(tmp_path / "whole", *RUN)
    play(tmp_path / "parts", *RUN, "budget.images=160")
    play(tmp_path / "parts", *RUN, "resume=auto")
    assert state_sha256(tmp_path / "parts") == state_sha256(tmp_path / "whole")


def test_a_generator_on_a_gpu_draws_every_way(tmp_path: Path) -> None:
    play(tmp_path / "run", *RUN)
    generator = twoplayer.load(tmp_path / "run").to("cuda")
    for drawn in (generator(4), generator.interpolate(2, 4), generator.walk(2, 2, 3)):
        assert drawn.is_cuda


@pytest.mark.parametrize("model", ["dcgan", "gan"])
def test_captured_updates_are_eager_ones(model: str, tmp_path: Path) -> None:
    states = []
    for engine in ("eager", "captured"):
        play(tmp_path / engine, *RUN, f"engine={engine}", model=model)
        found = checkpoints.newest(tmp_path / engine)
        assert found is not None
        states.append(found[1]["state_dict"])
    eager, captured = states
    assert eager.keys() == captured.keys()
    for name, tensor in eager.items():
        if isinstance(tensor, torch.Tensor):
            assert torch.allclose(tensor.float(), captured[name].float(), atol=1e-5, rtol=1e-3), name
