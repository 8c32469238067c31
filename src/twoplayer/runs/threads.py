"""How many threads a run on a CPU computes with.

On a quiet machine more threads are faster. Beside another busy process they are ten to a hundred times slower, since they wait for each
other in every operator. So the number is measured where a run begins.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

TRIAL_SECONDS = 1.0
WORTHWHILE = 1.1
"""More threads have to be so many times as fast as fewer ones."""
HOPELESS = 3.0
"""A number of threads that is so many times as slow as the best is tried no further."""


class Trial(NamedTuple):
    """The number of threads that was chosen, the mean seconds of an iteration with each that was tried, and the mean number of updates, of
    both players together, in an iteration.
    """

    threads: int
    seconds: Mapping[int, float]
    updates: float = 2.0


def candidates(most: int) -> list[int]:
    """The powers of two below `most`, and `most`."""
    return [*(2**power for power in range((most - 1).bit_length())), most]


def choose(numbers: Sequence[int], iterate: Callable[[int], float]) -> Trial:
    """Try these numbers of threads in turn, for TRIAL_SECONDS of iterations in all and each at least once; `iterate` plays one iteration
    with so many threads and returns its seconds.
    """
    found: dict[int, list[float]] = {number: [] for number in numbers}
    for number in numbers:
        iterate(number)  # the first allocates memory and prepares kernels
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
