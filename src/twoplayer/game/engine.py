"""How an update is executed, and in which precision."""

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
    """How updates are executed.

    An engine wraps two layers: the function that computes a player's gradients, which does nothing but device work, and
    the whole update around it (zero the gradients, compute, reduce, step). By default both run as they are written.
    """

    name: ClassVar[str]

    def executable_gradients(self, function: Gradients) -> Gradients:
        """The executable form of a gradient function."""
        return function

    def executable_update(self, function: Update, state: Callable[[], Sequence[Tensor]], baked: Callable[[], Hashable]) -> Update:
        """The executable form of a whole update, which changes `state()` and reads `baked()` on the host."""
        return function

    def settle(self, optimizers: Sequence[torch.optim.Optimizer], device: torch.device) -> None:
        """Before the first iteration, when the game is where it will be played and all states have been loaded: the optimizers' numbers too."""
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = group["lr"].to(device)

    @staticmethod
    def missing(device: torch.device) -> str | None:
        """What this machine lacks that the engine needs."""
        return None


class Eager(Engine):
    """Operator by operator."""

    name = "eager"


class Compiled(Engine):
    """The gradient functions as one generated kernel sequence each, forward, penalties and backward together.

    Randomness is drawn as the eager engine draws it, so both play the same game up to rounding.
    """

    name = "compiled"

    def executable_gradients(self, function: Gradients) -> Gradients:
        """Compiled at its first call, and once more for each combination of penalties that are due together."""
        torch._dynamo.config.trace_autograd_ops = True  # backward() is part of the function
        torch._dynamo.config.recompile_limit = 64
        return torch.compile(function, fullgraph=True, dynamic=False, options={"fallback_random": True})

    @staticmethod
    def missing(device: torch.device) -> str | None:
        """A C++ compiler, for the CPU."""
        from torch._inductor.cpp_builder import get_cpp_compiler
        from torch._inductor.exc import InvalidCxxCompiler

        try:
            get_cpp_compiler()
        except InvalidCxxCompiler:
            return "a C++ compiler" if device.type == "cpu" else None
        return None


class Captured(Engine):
    """The updates as CUDA graphs."""

    name = "captured"

    def executable_update(self, function: Update, state: Callable[[], Sequence[Tensor]], baked: Callable[[], Hashable]) -> Update:
        """Captured after some updates, if a replay does the same."""
        return CapturedUpdate(function, state, baked, capture=capture_cuda)

    def settle(self, optimizers: Sequence[torch.optim.Optimizer], device: torch.device) -> None:
        """A graph reads what lies on the device."""
        super().settle(optimizers, device)
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["capturable"] = True

    @staticmethod
    def missing(device: torch.device) -> str | None:
        """A CUDA GPU."""
        return None if device.type == "cuda" else "a CUDA GPU"


ENGINES: Mapping[EngineName, type[Engine]] = {"eager": Eager, "compiled": Compiled, "captured": Captured}


def resolve_engine(name: EngineName) -> Engine:
    """`auto` is eager: compiling takes longer than it saves in a run of some minutes, and captured has never been run on a real GPU."""
    return ENGINES["eager" if name == "auto" else name]()


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16; without them it is far slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return device.type == "cpu" and any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def resolve_precision(precision: Precision, device: torch.device) -> Precision:
    """`auto` is bf16 where the device is fast at it."""
    if precision != "auto":
        return precision
    return "bf16" if has_fast_bf16(device) else "fp32"


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """The context of one update. Never of two: its cache holds casts of weights that a step makes stale."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def configure_process() -> None:
    """What this process has to know before it computes: a GPU's libraries add in the same order each time, without which no run could go
    on exactly; freed memory is kept; and torch asks itself whether there is a GPU, not the driver before every step, as Lightning has
    it for processes that fork.
    """
    torch.backends.cudnn.deterministic = True
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Have the C library keep what tensors free, where it knows how (glibc): by default it gives the memory of every large one back to
    the system, and page faults then take a tenth of an iteration on a CPU.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # malloc.h
        mallopt(mmap_threshold, 32 * 2**20)
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(top_pad, 64 * 2**20)
