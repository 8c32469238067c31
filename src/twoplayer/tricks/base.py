"""The places of the training step, and the chosen tricks that act there.

A trick overrides the places where it acts. Each place takes a value and returns one of the same
type, and changes nothing by default. Samples may have any shape (N, ...): images or 2-D points.

The loop of game/game.py, with every place in calling order; `Trick` below describes each:

    build(model, loss), wrap(G, D), ready(G, D)         # once: three rounds over all tricks

    for iteration, batch in enumerate(batches):
        begin(images_seen, numbers)
        num_discriminator, num_generator = turns(iteration, (1, 1), costs)

        with opponent("generator", iteration):
            for _ in range(num_discriminator):
                z = latents(noise)
                fake = replay(model.fake(batch, z))
                real, fake = judge_both(judge, model.real(batch, z), fake)  # judge(x): D(view(x))
                cost = loss.discriminator(real, fake, *targets(1, 0))
                cost += every * penalty(real, fake, judge)               # if due
                cost.backward()
                gradients("discriminator", D.parameters)
                optimizer.step()
                after_discriminator(D, real, fake)

        with opponent("discriminator", iteration):
            for _ in range(num_generator):
                z = latents(noise)
                real, fake = judge_fakes(judge, model.real(batch, z), model.fake(batch, z))
                cost = loss.generator(fake, real, weights(fake.logits))
                cost = generator_cost(cost, real, fake)
                cost += every * generator_penalty(real, fake, judge)     # if due
                cost.backward()
                gradients("generator", G.parameters)
                optimizer.step()
                after_generator(G)

    sampler(G)                                          # for samples and metrics
    code(z)                                             # for metrics of InfoGAN
    pictures(draw)                                      # at the end of a run
    report()                                            # logged with the costs
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, ClassVar, Literal, NamedTuple, cast

import torch
from hydra.utils import get_class
from omegaconf import DictConfig
from torch import Tensor, nn

from twoplayer.errors import ConfigurationError
from twoplayer.losses.base import Loss
from twoplayer.models.base import Example, Judge, Model, Picture, Side
from twoplayer.settings import family

Player = Literal["discriminator", "generator"]


class Turns(NamedTuple):
    """The number of each player's updates in one iteration."""

    discriminator: int
    generator: int


class Costs(NamedTuple):
    """The last adversarial costs of both players, averaged over ranks."""

    discriminator: Tensor
    generator: Tensor


OF_DISCRIMINATOR = frozenset(
    {
        "turns", "opponent", "view", "replay", "targets", "judge_both", "judge_fakes", "penalty", "weights",
        "generator_cost", "generator_penalty", "after_discriminator",
    }
)  # fmt: skip
"""The places of the step that have no meaning without a discriminator."""


class Trick(nn.Module):
    """The base class of tricks, with one method per place; by default none acts."""

    every_updates: int = 1
    """Compute the penalties only in every n-th update of the player, multiplied by n.

    The penalties are `penalty` and `generator_penalty`.
    """
    slopes: ClassVar[frozenset[str]] = frozenset()
    """The sides, "real" or "fake", by whose images `penalty` differentiates."""
    needs_real: ClassVar[bool] = False
    """`judge_fakes` or `generator_penalty` needs the real side."""
    order: ClassVar[int] = 0
    """At a place, tricks of lower order act first; those of equal order act as listed."""
    bounds_slope: ClassVar[bool] = False
    """The trick bounds the discriminator's slope, as a Wasserstein critic needs."""
    needs: ClassVar[frozenset[str]] = frozenset()
    """What data and model must give, or the trick is refused.

    "labels"; "images" that D judges; "latents" from which all fakes are drawn; "single examples"
    that D judges without a partner; "packs" that D can be given; "a discriminator", as a trick with
    one of the methods of `OF_DISCRIMINATOR` does anyway; "a prior" that can be changed, as one with
    `latents` does; "hidden layers" of G that modules may be put behind.
    """
    excludes: ClassVar[Mapping[str, str]] = {}
    """The tricks that cannot be chosen beside it, each with the reason."""
    images_per_logit: int = 1
    """The number of images that `view` gives to D as one."""
    prior: str = ""
    """The result of `latents` for normal latents z: an expression, and its distribution.

    It is printed for users of an exported generator.
    """
    moving: ClassVar[frozenset[str]] = frozenset()
    """The names of the buffers that the trick itself changes, so that no schedule may."""
    per_rank: ClassVar[frozenset[str]] = frozenset()
    """The names of the buffers that differ between ranks.

    All other buffers are shared: the trick itself keeps them equal on all ranks.
    """

    def build(self, model: Model, loss: Loss) -> None:
        """First round, once: add modules to the players; read what is needed of model and loss."""

    def wrap(self, generator: nn.Module, discriminator: nn.Module) -> None:
        """Second round, once: change existing modules."""

    def ready(self, generator: nn.Module, discriminator: nn.Module) -> None:
        """Third round: both players are complete.

        Called again if the players' weights are replaced before training.
        """

    def begin(self, images_seen: int, numbers: Mapping[str, Tensor]) -> None:
        """Called at the start of an iteration, outside any graph.

        `numbers` maps the name of a setting (`optimizer.discriminator.lr`, `trick.r1.weight`) to
        the 0-dim tensor that its owner reads. A schedule writes into it in place.
        """

    def turns(self, iteration: int, turns: Turns, costs: Costs | None) -> Turns:
        """The number of each player's updates, outside any graph.

        `costs` is None until both players have had a turn.
        """
        return turns

    def opponent(self, player: Player, iteration: int) -> AbstractContextManager[None]:
        """A context that is held while the other player is updated, outside any graph.

        Old weights can stand in for those of `player`: copied in place, and restored at the end.
        """
        return nullcontext()

    def latents(self, latents: Tensor) -> Tensor:
        """Map standard normal latents (N, latent_size) to the prior's.

        Used in training, sampling and metrics alike.
        """
        return latents

    def view(self, images: Tensor) -> Tensor:
        """Change the images, real or fake, that the discriminator sees."""
        return images

    def replay(self, fake: Example) -> Example:
        """Change the fakes of the discriminator's update."""
        return fake

    def targets(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Change the soft labels, shaped like the logits; at first 1 for real and 0 for fake."""
        return real, fake

    def judge_both(self, judge: Judge, real: Example, fake: Example) -> tuple[Side, Side]:
        """Judge both sides in the discriminator's update, by default in two batches.

        At most one chosen trick acts here.
        """
        return judge(real), judge(fake)

    def judge_fakes(self, judge: Judge, real: Example | None, fake: Example) -> tuple[Side | None, Side]:
        """Judge in the generator's update; `real` is None if nothing needs it.

        At most one chosen trick acts here.
        """
        fake_side = judge(fake)
        return real and judge(real), fake_side

    def penalty(self, real: Side, fake: Side, judge: Judge) -> Tensor:
        """A scalar added to the discriminator's cost, and logged as `penalty/<trick>`."""
        raise NotImplementedError

    def weights(self, logits: Tensor, weights: Tensor) -> Tensor:
        """The weight of each fake in the generator's cost. They sum to the number of logits."""
        return weights

    def generator_cost(self, cost: Tensor, real: Side | None, fake: Side) -> Tensor:
        """Change the generator's adversarial cost, a scalar, before it is minimized.

        The cost is logged without this change.
        """
        return cost

    def generator_penalty(self, real: Side | None, fake: Side, judge: Judge) -> Tensor:
        """A scalar added to the generator's cost, and logged as `generator_penalty/<trick>`."""
        raise NotImplementedError

    def gradients(self, player: Player, parameters: Sequence[nn.Parameter]) -> None:
        """Change gradients in place, after averaging over ranks and before the optimizer's step."""

    def after_discriminator(self, discriminator: nn.Module, real: Side, fake: Side) -> None:
        """Called after the discriminator's step."""

    def after_generator(self, generator: nn.Module) -> None:
        """Called after the generator's step."""

    def sampler(self, generator: nn.Module) -> nn.Module:
        """The generator for samples and metrics."""
        return generator

    def code(self, latents: Tensor) -> Tensor:
        """The categorical code (N) in latents of the prior, which images are to reveal."""
        raise NotImplementedError

    def pictures(self, draw: "Draw") -> dict[str, Picture]:
        """Pictures to save at the end of a run, by name."""
        return {}

    def report(self) -> dict[str, Tensor]:
        """Scalars to log, by name."""
        return {}


class Draw(NamedTuple):
    """How a picture draws samples: latents of the prior, and their images in [-1, 1]."""

    latents: Callable[[int], Tensor]
    images: Callable[[Tensor], Tensor]


class Tricks(nn.Module):
    """The chosen tricks, in order.

    Which tricks act at which place is settled here, once; a place without tricks costs nothing.
    """

    def __init__(self, chosen: Mapping[str, Trick]) -> None:
        super().__init__()
        self.chosen = nn.ModuleDict(chosen)
        ordered = sorted(chosen.items(), key=lambda item: item[1].order)
        self._acting: dict[str, dict[str, Callable[..., Any]]] = {
            place: {name: getattr(trick, place) for name, trick in ordered if getattr(type(trick), place) is not method}
            for place, method in vars(Trick).items()
            if callable(method) and not place.startswith("_")
        }
        self.needs_real = any(trick.needs_real for trick in chosen.values())
        self.bounds_slope = any(trick.bounds_slope for trick in chosen.values())
        self.images_per_logit = max((trick.images_per_logit for trick in chosen.values()), default=1)
        self._every = {name: trick.every_updates for name, trick in chosen.items()}
        self._slopes = {name: trick.slopes for name, trick in chosen.items()}
        self._turns = Turns(1, 1)

    def attach(self, model: Model, loss: Loss) -> None:
        """Run three rounds, each over all tricks, so that their order does not matter."""
        self._turns = Turns(int(model.adversarial), 1)
        self._notify("build", model, loss)
        self._notify("wrap", model.generator, model.discriminator)
        self.ready(model.generator, model.discriminator)

    def ready(self, generator: nn.Module, discriminator: nn.Module) -> None:
        """Run the third round, again if the players' weights are replaced before training."""
        self._notify("ready", generator, discriminator)

    def begin(self, images_seen: int, numbers: Mapping[str, Tensor]) -> None:
        self._notify("begin", images_seen, numbers)

    def turns(self, iteration: int, costs: Costs | None) -> Turns:
        turns = self._turns
        for act in self._acting["turns"].values():
            turns = act(iteration, turns, costs)
        return turns

    @contextmanager
    def opponent(self, player: Player, iteration: int) -> Iterator[None]:
        with ExitStack() as stack:
            for act in self._acting["opponent"].values():
                stack.enter_context(act(player, iteration))
            yield

    def latents(self, latents: Tensor) -> Tensor:
        return self._chain("latents", latents)

    @property
    def priors(self) -> list[str]:
        """The maps from standard normal latents to the prior, in order."""
        return [cast(Trick, self.chosen[name]).prior for name in self._acting["latents"]]

    def view(self, images: Tensor) -> Tensor:
        return self._chain("view", images)

    def replay(self, fake: Example) -> Example:
        for act in self._acting["replay"].values():
            fake = act(fake)
        return fake

    def targets(self, real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, Tensor]:
        targets = torch.ones_like(real_logits), torch.zeros_like(fake_logits)
        for act in self._acting["targets"].values():
            targets = act(*targets)
        return targets

    def judge_both(self, judge: Judge, real: Example, fake: Example) -> tuple[Side, Side]:
        for act in self._acting["judge_both"].values():
            sides: tuple[Side, Side] = act(judge, real, fake)
            return sides
        return judge(real), judge(fake)

    def judge_fakes(self, judge: Judge, real: Example | None, fake: Example) -> tuple[Side | None, Side]:
        for act in self._acting["judge_fakes"].values():
            sides: tuple[Side | None, Side] = act(judge, real, fake)
            return sides
        fake_side = judge(fake)
        return real and judge(real), fake_side

    def due(self, player: Player, updates: int) -> tuple[str, ...]:
        """The tricks whose penalty is due in a player's next update, after `updates` others."""
        place = "penalty" if player == "discriminator" else "generator_penalty"
        return tuple(name for name in self._acting[place] if updates % self._every[name] == 0)

    def differentiated(self, side: str, due: Sequence[str]) -> bool:
        """Whether a due penalty differentiates by the images of `side`, "real" or "fake"."""
        return any(side in self._slopes[name] for name in due)

    def penalties(self, due: Sequence[str], real: Side, fake: Side, judge: Judge) -> dict[str, Tensor]:
        """The discriminator's due penalties by trick, not yet multiplied by their intervals."""
        return {name: self._acting["penalty"][name](real, fake, judge) for name in due}

    def generator_penalties(self, due: Sequence[str], real: Side | None, fake: Side, judge: Judge) -> dict[str, Tensor]:
        """The generator's due penalties by trick, not yet multiplied by their intervals."""
        return {name: self._acting["generator_penalty"][name](real, fake, judge) for name in due}

    def total(self, penalties: Mapping[str, Tensor]) -> Tensor | float:
        """The sum of penalties, each multiplied by its interval."""
        return sum(self._every[name] * penalty for name, penalty in penalties.items())

    def weights(self, logits: Tensor) -> Tensor:
        weights = torch.ones_like(logits)
        for act in self._acting["weights"].values():
            weights = act(logits, weights)
        return weights

    def generator_cost(self, cost: Tensor, real: Side | None, fake: Side) -> Tensor:
        return self._chain("generator_cost", cost, real, fake)

    def gradients(self, player: Player, parameters: Sequence[nn.Parameter]) -> None:
        self._notify("gradients", player, parameters)

    def after_discriminator(self, discriminator: nn.Module, real: Side, fake: Side) -> None:
        self._notify("after_discriminator", discriminator, real, fake)

    def after_generator(self, generator: nn.Module) -> None:
        self._notify("after_generator", generator)

    def sampler(self, generator: nn.Module) -> nn.Module:
        for act in self._acting["sampler"].values():
            generator = act(generator)
        return generator

    @property
    def has_code(self) -> bool:
        """Whether a trick puts a categorical code into the latents."""
        return bool(self._acting["code"])

    def code(self, latents: Tensor) -> Tensor:
        """The categorical code (N) in latents."""
        (act,) = self._acting["code"].values()
        return cast(Tensor, act(latents))

    def pictures(self, draw: Draw) -> dict[str, Picture]:
        return {name: picture for act in self._acting["pictures"].values() for name, picture in act(draw).items()}

    def numbers(self) -> dict[str, Tensor]:
        """The numbers of all tricks that a schedule may change, by name in the configuration."""
        return {
            f"trick.{key}.{name}": number
            for key, trick in self.chosen.named_children()
            if isinstance(trick, Trick)
            for name, number in numbers(trick).items()
        }

    def report(self) -> dict[str, Tensor]:
        return {f"trick/{trick}/{name}": value for trick, act in self._acting["report"].items() for name, value in act().items()}

    def _notify(self, place: str, *arguments: Any) -> None:
        for act in self._acting[place].values():
            act(*arguments)

    def _chain(self, place: str, value: Tensor, *others: Any) -> Tensor:
        for act in self._acting[place].values():
            value = act(value, *others)
        return value


def numbers(trick: Trick) -> dict[str, Tensor]:
    """A trick's numbers that a schedule may change, by name.

    They are its 0-dim floating-point buffers, but for those in `moving`.
    """
    found = {name: buffer for name, buffer in trick.named_buffers(recurse=False) if buffer.ndim == 0 and buffer.is_floating_point()}
    return {name: buffer for name, buffer in found.items() if name not in trick.moving}


def refuse_vectors(trick: str, config: DictConfig, why: str) -> None:
    """Refuse losses for which D outputs vectors.

    `trick` needs one number per image; `why` completes the message.
    """
    if get_class(config.loss._target_).of_vectors:
        raise ConfigurationError(f"trick={trick}: loss={family(config.loss)} makes D output vectors, {why}; choose another loss")


def refuse_without_soft_labels(trick: str, config: DictConfig) -> None:
    """Refuse losses without soft labels, for a trick that changes the labels."""
    loss = get_class(config.loss._target_)
    if not loss.soft_labels:
        raise ConfigurationError(f"trick={trick}: {loss.__name__} has no labels to soften; leave the trick out, or choose another loss")
