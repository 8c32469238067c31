"""Randomness as a function of the seed and of the place where it is used, so that no generator state has to be kept.

The batch of iteration 812, its latents and its dropout masks follow from the seed and the number 812 alone: neither logging
nor sampling can shift them, and a run that is resumed draws what it would have drawn.
"""

import hashlib
from contextlib import AbstractContextManager

import torch


def derive(seed: int, *place: int | str) -> int:
    """A 63-bit seed for one place, such as `derive(0, "latents", iteration, "generator", turn)`; the same on every machine."""
    digest = hashlib.blake2b(repr((seed, *place)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(device: torch.device | str, seed: int, *place: int | str) -> torch.Generator:
    """A generator of its own for one place."""
    return torch.Generator(device).manual_seed(derive(seed, *place))


def aside(device: torch.device) -> AbstractContextManager[None]:
    """Within it the global generators may be used without a trace."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def restart(seed: int, *place: int | str) -> None:
    """Set the global generators (dropout, augmentation, initial weights) of the CPU and of a device that is in use to one place."""
    number = derive(seed, *place)
    # torch.manual_seed would also leave a note, with a stack trace, for every kind of device that may be used one day: half a millisecond,
    # and memory that is never freed.
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(number)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(number)
