"""The top-level settings of a configuration, with types and ranges."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, MinLen

from twoplayer.game.engine import EngineName, Precision


@dataclass
class Budget:
    """How long a run trains: until the first iteration that reaches either limit."""

    images: Annotated[int, Gt(0)]
    seconds: Annotated[float, Gt(0)] | None


@dataclass
class Checkpoint:
    """How often a run is saved, besides at its end: whichever interval ends first.

    The newest `keep` checkpoints are kept, and the best one.
    """

    every_images: Annotated[int, Gt(0)] | None
    every_seconds: Annotated[float, Gt(0)] | None
    keep: Annotated[int, Ge(2)]


@dataclass
class Hardware:
    """The devices and nodes of a run."""

    accelerator: Literal["auto", "cpu", "gpu", "mps"]
    devices: Annotated[int, Gt(0)]
    num_nodes: Annotated[int, Gt(0)]


Text = Annotated[str, MinLen(1)]


@dataclass
class Experiment:
    """The top-level settings; nodes with a `_target_` are checked against their constructors."""

    name: str
    run: Text
    sweep: Text
    resume: Text | None
    init_from: Text | None
    seed: Annotated[int, Ge(0)]
    budget: Budget
    checkpoint: Checkpoint
    engine: EngineName
    precision: Precision
    threads: Literal["auto"] | Annotated[int, Ge(1)]
    debug: bool
    trainer: Hardware
    data: dict[str, Any]
    model: dict[str, Any]
    loss: dict[str, Any]
    trick: dict[str, Any]
    optimizer: dict[str, Any]
    metric: dict[str, Any]
    callbacks: dict[str, Any]
    referee: dict[str, Any]
    logger: dict[str, Any]
