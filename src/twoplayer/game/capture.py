"""Updates as CUDA graphs.

An update launches hundreds of small kernels. Launching them one by one takes longer than running
them; a CUDA graph launches them all at once.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from twoplayer.errors import ConfigurationError
from twoplayer.models.base import Batch

Result = tuple[Tensor, dict[str, Tensor]]
Update = Callable[[Batch, Tensor, tuple[str, ...]], Result]

WARM_UP = 3
"""Number of eager updates of each kind before one is captured.

Meanwhile libraries choose their kernels and optimizers create their state.
"""

TOLERANCE = 1e-3
"""Largest distance allowed between the states after a replay and after the eager update.

It is a share of the distance by which the eager update changes the state.
"""


class Graph(Protocol):
    """A captured update that can be replayed on the same memory."""

    def replay(self) -> None:
        """Run the captured kernels."""
        ...


Capture = Callable[[Callable[[], Result]], tuple[Graph, Result]]


class CannotCaptureError(ConfigurationError, RuntimeError):
    """An update cannot be captured as a graph; the message gives the cause."""


def changed_tensors(game: nn.Module, optimizers: Iterable[torch.optim.Optimizer]) -> list[Tensor]:
    """All tensors that an update may change: the state of the game and of its optimizers."""
    of_optimizers = (
        value for optimizer in optimizers for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)
    )
    return [*(value for value in game.state_dict(keep_vars=True).values() if isinstance(value, Tensor)), *of_optimizers]


def capture_cuda(function: Callable[[], Result]) -> tuple[Graph, Result]:
    """Capture the function as a CUDA graph. Returns it and the tensors that hold its result."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = function()
    return graph, result


@dataclass
class _Kind:
    """The graph for one combination of due penalties."""

    baked: Hashable
    calls: int = 0
    inputs: tuple[Tensor, ...] = ()
    graph: Graph | None = None
    result: Result | None = None


class CapturedUpdate:
    """An update as CUDA graphs, one for each combination of due penalties.

    `state()` returns all tensors that an update changes. `baked()` returns the numbers on the host
    that a graph holds as constants; when they change, the update is captured again.

    The first `WARM_UP` updates of each kind run eagerly. The next one runs both eagerly and as a
    graph from the same state. The graph is used from then on if both end in the same state, up to
    `TOLERANCE`; otherwise CannotCaptureError is raised.
    """

    def __init__(self, update: Update, state: Callable[[], Sequence[Tensor]], baked: Callable[[], Hashable], *, capture: Capture) -> None:
        self._update, self._state, self._baked, self._capture = update, state, baked, capture
        self._kinds: dict[tuple[str, ...], _Kind] = {}

    def __call__(self, batch: Batch, latents: Tensor, due: tuple[str, ...]) -> Result:
        """Run one update."""
        baked = self._baked()
        kind = self._kinds.get(due)
        if kind is None or kind.baked != baked:
            kind = self._kinds[due] = _Kind(baked)
        kind.calls += 1
        if kind.calls <= WARM_UP:
            return self._update(batch, latents, due)
        if kind.graph is None:
            return self._first_replay(kind, batch, latents, due)
        for place, value in zip(kind.inputs, (*batch, latents), strict=True):
            place.copy_(value)
        kind.graph.replay()
        assert kind.result is not None
        return kind.result

    def _first_replay(self, kind: _Kind, batch: Batch, latents: Tensor, due: tuple[str, ...]) -> Result:
        """Run one update eagerly and as a graph; keep the graph if both agree."""
        state = self._state()
        random = _random_state(latents.device)
        before = [tensor.detach().clone() for tensor in state]
        self._update(batch, latents, due)
        after = [tensor.detach().clone() for tensor in state]
        _restore(state, before, latents.device, random)
        *parts, latents = inputs = [tensor.clone() for tensor in (*batch, latents)]
        try:
            graph, captured = self._capture(lambda: self._update(tuple(parts), latents, due))
            graph.replay()
            _compare(before, after, state)
        except RuntimeError as error:
            cause = " ".join(str(error).split())[:300]
            raise CannotCaptureError(f"engine=captured: an update cannot be captured ({cause}); set engine=eager") from error
        kind.inputs, kind.graph, kind.result = tuple(inputs), graph, captured
        return captured


def _compare(before: Sequence[Tensor], eager: Sequence[Tensor], replayed: Sequence[Tensor]) -> None:
    """Raise CannotCaptureError if the states after an eager update and a replay differ."""
    moved = distance = torch.zeros((), dtype=torch.float64)
    for old, one, other in zip(before, eager, replayed, strict=True):
        if not one.is_floating_point():
            if not torch.equal(one, other):
                raise CannotCaptureError("a replay changes counters differently from the eager update")
            continue
        moved = moved + (one.double() - old.double()).square().sum().cpu()
        distance = distance + (one.double() - other.double()).square().sum().cpu()
    if not distance.sqrt() <= TOLERANCE * moved.sqrt():
        raise CannotCaptureError(f"a replay differs from the eager update by {float((distance / moved).sqrt()):.1%} of its change")


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _restore(state: Sequence[Tensor], values: Sequence[Tensor], device: torch.device, random: Tensor) -> None:
    with torch.no_grad():
        for tensor, value in zip(state, values, strict=True):
            tensor.copy_(value)
    if device.type == "cuda":
        torch.cuda.set_rng_state(random, device)
    else:
        torch.set_rng_state(random)
