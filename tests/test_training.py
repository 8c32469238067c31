"""What a machine cannot give is refused, and how a run is described."""

from pathlib import Path

import pytest
import torch

from helpers.games import composed, play, small
from twoplayer.commands.rows import find
from twoplayer.config.hardware import refuse_hardware
from twoplayer.errors import ConfigurationError
from twoplayer.game.engine import resolve_precision
from twoplayer.runs.train import _group
from twoplayer.settings import tags


def test_two_ranks_on_one_gpu_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(
        ConfigurationError, match=r"trainer.devices=2: this machine has 1 of kind gpu; set trainer.devices=1, or trainer=cpu"
    ):
        refuse_hardware(composed("trainer.devices=2"))
    refuse_hardware(composed("trainer=cpu", "trainer.devices=2"))


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigurationError, match=r"trainer.accelerator=gpu: there is none on this machine"):
        refuse_hardware(composed("trainer=gpu"))


@pytest.mark.parametrize(("fast", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_precision_follows_the_instructions_of_the_device(fast: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": fast})
    assert resolve_precision("auto", torch.device("cpu")) == expected
    assert resolve_precision("fp32", torch.device("cpu")) == "fp32"


def test_runs_that_differ_by_their_seed_are_one_group(tmp_path: Path) -> None:
    one, other = (small("trick=[ema]", f"seed={seed}") for seed in (0, 1))
    assert "_".join(tags(one)) == "_".join(tags(other)) == "synthetic_dcgan_non_saturating_ema"
    assert tags(one)[1:] == ["dcgan", "non_saturating", "ema"]
    groups = {
        _group(small("trick=[ema]"), words) for words in (["model=dcgan", "seed=1"], ["seed=2"], ["model=dcgan", "loss=non_saturating"])
    }
    assert groups == {"synthetic_dcgan_non_saturating_ema"}
    (tmp_path / "search.db").touch()
    assert _group(small(f"sweep='{tmp_path}'"), [f"sweep={tmp_path}"]) == tmp_path.name, "the trials of a search are one"
    assert _group(small("trick=[ema]"), ["model=dcgan_paper"]) == "synthetic_dcgan_non_saturating_ema model=dcgan_paper"


def test_a_run_that_fails_before_it_trains_counts_as_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("too large")

    with monkeypatch.context() as patch:
        patch.setattr("twoplayer.runs.train.flops_per_image", fail)
        with pytest.raises(MemoryError):
            play(tmp_path / "sweep" / "one", "loss=hinge", "seed=3", "budget.images=32")
    (run,) = find(str(tmp_path / "sweep"))
    assert (run.summary["status"], run.summary["error"], run.summary["seed"]) == ("failed", "too large", 3)
    assert run.length[0] == "budget.images=32"
    # Nothing holds it to what has failed.
    summary = play(tmp_path / "sweep" / "one", "loss=minimax", "seed=3", "budget.images=32", "resume=auto")
    assert (summary["status"], summary["error"]) == ("finished", None)
