"""Choosing the number of threads of a run on the CPU.

On an idle machine more threads are faster. Next to another busy process they are ten to a hundred
times slower, since they wait for each other in every operator. So a new run measures it.
"""

import logging
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from omegaconf import DictConfig

from twoplayer import randomness
from twoplayer.config.hardware import num_ranks
from twoplayer.distributed import environment
from twoplayer.game.build import build_game
from twoplayer.runs.plan import Plan

log = logging.getLogger(__name__)

TRIAL_SECONDS = 1.0
WORTHWHILE = 1.1
"""More threads are chosen only if they are this many times faster than fewer."""
HOPELESS = 3.0
"""A number of threads this many times slower than the best is not tried again."""


class Trial(NamedTuple):
    """The result of the trial.

    `threads` is the chosen number, `seconds` the mean seconds per iteration for each number tried,
    and `updates` the mean number of updates per iteration, of both players together.
    """

    threads: int
    seconds: Mapping[int, float]
    updates: float = 2.0


def settle_threads(config: DictConfig, plan: Plan, device: torch.device) -> Trial | None:
    """Set the number of threads of this process.

    It is the configured number, else that of the resumed run. Otherwise the ranks of a machine
    share its CPUs, and a run of one process on the CPU measures which number is fastest; only then
    is a Trial returned.
    """
    wanted = plan.threads if config.threads == "auto" else config.threads
    if wanted is not None:
        if plan.threads not in (None, wanted):
            log.warning("the number of threads changes from %s to %s: results will differ in the last digits", plan.threads, wanted)
        _set(wanted)
        return None
    most = share(config.trainer.devices)
    if num_ranks(config) > 1 or most == 1:
        _set(most)
        return None
    if device.type != "cpu":
        return None
    log.info("measuring the speed of 1 to %s threads ...", most)
    with randomness.aside(device):
        config = config.copy()
        config.engine = "eager"  # compiling would take longer than the trial
        game = build_game(config, device)
        batch = plan.data.batches(config.seed, device).batch(0)

        def iterate(threads: int) -> float:
            torch.set_num_threads(threads)
            started = time.perf_counter()
            game.iterate(batch)
            return time.perf_counter() - started

        trial = choose(candidates(most), iterate)
    torch.set_num_threads(trial.threads)
    return trial._replace(updates=sum(game.clock.updates.values()) / game.clock.iteration)


def _set(threads: int) -> None:
    os.environ["OMP_NUM_THREADS"] = str(threads)  # for the other ranks on this machine
    torch.set_num_threads(threads)


def share(processes: int) -> int:
    """Threads for each process of this machine: what the environment gives, or an equal part."""
    if "OMP_NUM_THREADS" in os.environ:
        return torch.get_num_threads()
    return environment.cpus_per_process() or max(1, torch.get_num_threads() // processes)


def candidates(most: int) -> list[int]:
    """The powers of two below `most`, and `most`."""
    return [*(2**power for power in range((most - 1).bit_length())), most]


def choose(numbers: Sequence[int], iterate: Callable[[int], float]) -> Trial:
    """Try the numbers of threads in turn for TRIAL_SECONDS in total, each at least once.

    `iterate` runs one iteration with a number of threads and returns its seconds.
    """
    found: dict[int, list[float]] = {number: [] for number in numbers}
    for number in numbers:
        iterate(number)  # warm-up: allocates memory and prepares kernels
    tried, spent = list(numbers), 0.0
    while True:
        for number in tried:
            found[number].append(iterate(number))
            spent += found[number][-1]
        means = {number: statistics.mean(seconds) for number, seconds in found.items()}
        tried = [number for number in tried if means[number] <= HOPELESS * min(means.values())]
        if spent >= TRIAL_SECONDS:
            break
    chosen = numbers[0]
    for number in sorted(numbers):
        if means[number] * WORTHWHILE <= means[chosen]:
            chosen = number
    return Trial(chosen, means)
