"""How updates are executed, and in which precision."""

import ctypes
import os
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from twoplayer.game.capture import CapturedUpdate, Update, capture_cuda

EngineName = Literal["auto", "eager", "compiled", "captured"]
Precision = Literal["auto", "fp32", "bf16"]

Gradients = Callable[..., Any]


class Engine:
    """How updates are executed; this base class runs them eagerly.

    An engine may replace two functions: the one that computes a player's gradients, which does only
    device work, and the whole update around it (zero the gradients, compute, reduce, step).
    """

    name: ClassVar[str]

    def executable_gradients(self, function: Gradients) -> Gradients:
        """The function to call instead of `function`, which computes a player's gradients."""
        return function

    def executable_update(self, function: Update, state: Callable[[], Sequence[Tensor]], baked: Callable[[], Hashable]) -> Update:
        """The function to call instead of `function`, a whole update.

        The update changes the tensors of `state()` and reads the numbers of `baked()` on the host.
        """
        return function

    def settle(self, optimizers: Sequence[torch.optim.Optimizer], device: torch.device) -> None:
        """Move the optimizers' numbers to the device.

        Called before the first iteration, when the game is on its device and all state is loaded.
        """
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = group["lr"].to(device)

    @staticmethod
    def missing(device: torch.device) -> str | None:
        """What the engine needs and this machine lacks, or None."""
        return None


class Eager(Engine):
    """Runs updates operator by operator."""

    name = "eager"


class Compiled(Engine):
    """Compiles each gradient function as a whole: forward, penalties and backward.

    It draws the same random numbers as the eager engine, so results agree up to rounding.
    """

    name = "compiled"

    def executable_gradients(self, function: Gradients) -> Gradients:
        """Compiled at the first call, and again for each new combination of due penalties."""
        torch._dynamo.config.trace_autograd_ops = True  # backward() is part of the function
        torch._dynamo.config.recompile_limit = 64
        return torch.compile(function, fullgraph=True, dynamic=False, options={"fallback_random": True})

    @staticmethod
    def missing(device: torch.device) -> str | None:
        """A C++ compiler, if the device is the CPU."""
        from torch._inductor.cpp_builder import get_cpp_compiler
        from torch._inductor.exc import InvalidCxxCompiler

        try:
            get_cpp_compiler()
        except InvalidCxxCompiler:
            return "a C++ compiler" if device.type == "cpu" else None
        return None


class Captured(Engine):
    """Runs updates as CUDA graphs."""

    name = "captured"

    def executable_update(self, function: Update, state: Callable[[], Sequence[Tensor]], baked: Callable[[], Hashable]) -> Update:
        """Captured after some eager updates, and checked against one; see `CapturedUpdate`."""
        return CapturedUpdate(function, state, baked, capture=capture_cuda)

    def settle(self, optimizers: Sequence[torch.optim.Optimizer], device: torch.device) -> None:
        """As for all engines; the optimizers also become capturable."""
        super().settle(optimizers, device)
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["capturable"] = True

    @staticmethod
    def missing(device: torch.device) -> str | None:
        """A CUDA GPU, if the device is another one."""
        return None if device.type == "cuda" else "a CUDA GPU"


ENGINES: Mapping[EngineName, type[Engine]] = {"eager": Eager, "compiled": Compiled, "captured": Captured}


def resolve_engine(name: EngineName) -> Engine:
    """The engine of this name; `auto` is eager.

    Compiling takes longer than it saves in a run of a few minutes, and the captured engine has
    never run on a real GPU.
    """
    return ENGINES["eager" if name == "auto" else name]()


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16.

    Without them bfloat16 is far slower than float32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return device.type == "cpu" and any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def resolve_precision(precision: Precision, device: torch.device) -> Precision:
    """The precision to use; `auto` is bf16 where the device has instructions for it."""
    if precision != "auto":
        return precision
    return "bf16" if has_fast_bf16(device) else "fp32"


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """The autocast context of one update.

    Do not use it for two updates: its cached casts of weights are stale after an optimizer step.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def configure_process() -> None:
    """Configure torch and the C library; call this before anything is computed.

    - cuDNN and cuBLAS add in the same order each time, which an exact resume needs.
    - Freed memory is kept; see `keep_freed_memory`.
    - Torch detects GPUs itself. With Lightning's default it would query the driver before every
      step.
    """
    torch.backends.cudnn.deterministic = True
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Make the C library keep freed memory. Only glibc can; elsewhere this does nothing.

    By default glibc returns the memory of every large tensor to the system. The page faults that
    follow take a tenth of an iteration on a CPU.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # malloc.h
        mallopt(mmap_threshold, 32 * 2**20)
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(top_pad, 64 * 2**20)
