"""Random numbers as a function of the seed and the place of use, without generator state to save.

The batch, latents and dropout masks of iteration 812 depend on the seed and the number 812 only:
logging and sampling do not change them, and a resumed run draws the same numbers as an
uninterrupted one.
"""

import hashlib
from contextlib import AbstractContextManager

import torch


def derive(seed: int, *place: int | str) -> int:
    """A 63-bit seed for one place, such as `derive(0, "latents", iteration, "generator", turn)`.

    It is the same on every machine.
    """
    digest = hashlib.blake2b(repr((seed, *place)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(device: torch.device | str, seed: int, *place: int | str) -> torch.Generator:
    """A new generator on `device`, seeded for one place."""
    return torch.Generator(device).manual_seed(derive(seed, *place))


def aside(device: torch.device) -> AbstractContextManager[None]:
    """A context that restores the global generators of the CPU and of `device` at its end."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def restart(seed: int, *place: int | str) -> None:
    """Seed the global generators of the CPU and of devices in use for one place.

    Dropout, augmentation and initial weights draw from them.
    """
    number = derive(seed, *place)
    # torch.manual_seed would also queue a call, with a stack trace, for each device type that is
    # not initialized yet: half a millisecond, and memory that is never freed.
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(number)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(number)
