"""The private names of other packages that this one uses: each exists and behaves as needed.

A release that changes one of them fails here, with its name, and not in the middle of a run.
"""

import inspect
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationKeyError
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader


class Raw(LightningModule):
    """Manual optimization with an optimizer that Lightning does not wrap, as the game has."""

    def __init__(self, counts: bool = True) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight, self.counts = nn.Parameter(torch.zeros(1)), counts

    def training_step(self, batch: Tensor, batch_index: int) -> None:
        if self.counts:
            progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
            progress.increment_ready()
            progress.increment_completed()

    def configure_optimizers(self) -> list[Any]:
        return []


def quiet(folder: Path, **settings: Any) -> Trainer:
    off: Any = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return Trainer(accelerator="cpu", default_root_dir=folder, max_epochs=1, **off, **settings)


@pytest.mark.parametrize("counts", [True, False])
def test_lightning_optim_step_progress_is_the_global_step(counts: bool, tmp_path: Path) -> None:
    """`trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress`: counts raw steps."""
    trainer = quiet(tmp_path)
    trainer.fit(Raw(counts), DataLoader(list(range(5))))  # type: ignore[arg-type]
    assert trainer.global_step == (5 if counts else 0)
    checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
    assert checkpoint["global_step"] == trainer.global_step


def test_lightning_signal_connector_registers_handlers_through_one_method(tmp_path: Path) -> None:
    """`trainer._signal_connector.register_signal_handlers`: replaced, no handler is changed."""
    trainer, ours, seen = quiet(tmp_path), lambda *arguments: None, []
    before = {number: signal.signal(number, ours) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        trainer._signal_connector.register_signal_handlers = lambda: seen.append("called")  # type: ignore[method-assign]
        trainer.fit(Raw(), DataLoader([0]))  # type: ignore[arg-type]
        assert seen == ["called"]
        assert [signal.getsignal(number) for number in before] == [ours] * 2
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_lightning_ddp_strategy_asks_configure_launcher_for_its_launcher(tmp_path: Path) -> None:
    """`DDPStrategy._configure_launcher` sets `_launcher`, which `launcher` returns.

    `configure_ddp` is where a module would be wrapped.
    """
    made = object()

    class Strategy(DDPStrategy):
        def _configure_launcher(self) -> None:
            self._launcher = made  # type: ignore[assignment]

    assert quiet(tmp_path, strategy=Strategy(), devices=2).strategy.launcher is made
    assert "configure_ddp" in DDPStrategy.setup.__code__.co_names


def test_lightning_subprocess_launcher_is_made_and_called_as_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """`_SubprocessScriptLauncher`: arguments, `launch`, `_check_can_spawn_children`, `procs`."""
    from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

    monkeypatch.setattr(subprocess, "Popen", pytest.fail)
    launcher = _SubprocessScriptLauncher(LightningEnvironment(), 1, 1)
    assert (launcher.num_processes, launcher.num_nodes, launcher.procs) == (1, 1, [])
    launcher._check_can_spawn_children()
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(RuntimeError, match="rank > 0"):
        _SubprocessScriptLauncher(LightningEnvironment(), 2, 1)._check_can_spawn_children()
    assert list(inspect.signature(launcher.launch).parameters) == ["function", "args", "trainer", "kwargs"]
    assert "_call_children_scripts" in _SubprocessScriptLauncher.launch.__code__.co_names


def test_lightning_set_num_threads_if_needed_leaves_one_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """`lightning_fabric.utilities.distributed._set_num_threads_if_needed`: shares the cores.

    It keeps what the environment asks for.
    """
    from lightning_fabric.utilities import distributed

    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    distributed._set_num_threads_if_needed(num_processes=2)
    assert asked == []
    monkeypatch.delenv("OMP_NUM_THREADS")
    distributed._set_num_threads_if_needed(num_processes=10_000)
    assert asked == [1]
    assert os.environ["OMP_NUM_THREADS"] == "1"


def test_lightning_rank_zero_only_reads_its_rank_attribute(monkeypatch: pytest.MonkeyPatch) -> None:
    """`rank_zero_only.rank`, which forked test processes set: no documented setting."""
    from pytorch_lightning.utilities import rank_zero_only

    called: list[int] = []
    for rank in (0, 1):
        monkeypatch.setattr(rank_zero_only, "rank", rank, raising=False)
        rank_zero_only(called.append)(rank)
    assert called == [0]


def test_hydra_basic_sweeper_splits_arguments_into_jobs() -> None:
    """`hydra._internal.core_plugins.basic_sweeper.BasicSweeper.split_arguments`.

    And the `_target_` by which the default sweeper is known.
    """
    from hydra._internal.core_plugins import basic_sweeper
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf

    overrides = OverridesParser.create().parse_overrides(["loss=a,b", "seed=range(2)", "x=1"])
    (jobs,) = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    assert sorted(map(tuple, jobs)) == [(f"loss={loss}", f"seed={seed}", "x=1") for loss in "ab" for seed in (0, 1)]
    assert BasicSweeperConf._target_ == f"{basic_sweeper.__name__}.{BasicSweeper.__name__}"


def test_omegaconf_get_node_does_not_resolve() -> None:
    """`DictConfig._get_node`: a setting as written, even where its interpolation leads nowhere."""
    config = OmegaConf.create({"lost": "${nowhere}", "none": None})
    with pytest.raises(InterpolationKeyError):
        _ = config.lost
    assert config._get_node("lost")._value() == "${nowhere}"  # type: ignore[union-attr]
    assert config._get_node("none") is not None
    assert config._get_node("absent") is None


def test_torch_flatten_dense_tensors_and_back() -> None:
    """`torch._utils._flatten_dense_tensors` and `_unflatten_dense_tensors`: flat and back."""
    from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

    tensors = [torch.arange(6.0).view(2, 3), torch.tensor(7.0), torch.arange(4.0).view(4, 1).t()]
    flat = _flatten_dense_tensors(tensors)
    assert flat.shape == (11,)
    back = _unflatten_dense_tensors(flat, tensors)
    assert all(torch.equal(one, other) for one, other in zip(back, tensors, strict=True))


def test_torch_foreach_updates_are_in_place() -> None:
    """`torch._foreach_` `add_`, `mul_`, `lerp_`, `addcmul_`, `clamp_min_`, `clamp_max_`, `mul`."""
    values = [torch.tensor([1.0, -4.0]), torch.tensor([[2.0]])]
    others = [torch.tensor([3.0, 2.0]), torch.tensor([[4.0]])]
    torch._foreach_add_(values, 1)
    torch._foreach_mul_(values, torch.tensor(2.0))
    assert [value.tolist() for value in values] == [[4.0, -6.0], [[6.0]]]
    torch._foreach_lerp_(values, others, 0.5)
    torch._foreach_addcmul_(values, others, others, 0.5)
    assert [value.tolist() for value in values] == [[8.0, 0.0], [[13.0]]]
    torch._foreach_clamp_min_(values, 1)
    torch._foreach_clamp_max_(values, 9)
    assert [value.tolist() for value in values] == [[8.0, 1.0], [[9.0]]]
    assert [value.tolist() for value in torch._foreach_mul(values, 2.0)] == [[16.0, 2.0], [[18.0]]]


def test_torch_dynamo_and_inductor_settings_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch._dynamo.config.trace_autograd_ops`, `recompile_limit`.

    And of `torch._inductor`: `get_cpp_compiler`, `InvalidCxxCompiler`, option `fallback_random`.
    """
    from torch._inductor import cpp_builder
    from torch._inductor.exc import InvalidCxxCompiler

    for name in ("trace_autograd_ops", "recompile_limit"):
        monkeypatch.setattr(torch._dynamo.config, name, getattr(torch._dynamo.config, name))
    assert callable(cpp_builder.get_cpp_compiler)
    assert issubclass(InvalidCxxCompiler, Exception)
    assert "fallback_random" in torch._inductor.list_options()
