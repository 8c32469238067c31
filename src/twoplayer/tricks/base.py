"""The places of the training step, and the chosen tricks that act there.

A trick overrides the places where it acts; each takes a value and returns one of the same type, and by default changes
nothing. All work on things of any sample shape (N, ...), so 2-D points are data as well as images.

The loop of game/game.py, with every place in the order in which they are called; `Trick` below says what each is for:

    build(model, loss), wrap(G, D), ready(G, D)                              # once, three rounds over all tricks

    for iteration, batch in enumerate(batches):
        begin(images_seen, numbers)
        num_discriminator, num_generator = turns(iteration, (1, 1), costs)

        with opponent("generator", iteration):
            for _ in range(num_discriminator):
                z = latents(noise)
                fake = replay(model.fake(batch, z))
                real, fake = judge_both(judge, model.real(batch, z), fake)   # judge(x): what D says of view(x)
                cost = loss.discriminator(real, fake, *targets(1, 0))
                cost += every * penalty(real, fake, judge)                   # if it is due
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
                cost += every * generator_penalty(real, fake, judge)         # if it is due
                cost.backward()
                gradients("generator", G.parameters)
                optimizer.step()
                after_generator(G)

    sampler(G)                                                               # what is sampled and scored
    report()                                                                 # now and then, beside the costs
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
from twoplayer.models.base import Example, Judge, Model, Side

Player = Literal["discriminator", "generator"]


class Turns(NamedTuple):
    """How many updates each player gets in one iteration."""

    discriminator: int
    generator: int


class Costs(NamedTuple):
    """The last adversarial costs of both players, averaged over ranks."""

    discriminator: Tensor
    generator: Tensor


class Trick(nn.Module):
    """One idea about how the game is played: the map of all places."""

    every_updates: int = 1
    """`penalty` and `generator_penalty` are computed in every so many updates of the player, and multiplied by as much."""
    slopes: ClassVar[frozenset[str]] = frozenset()
    """The sides, "real" or "fake", by whose images `penalty` differentiates."""
    needs_real: ClassVar[bool] = False
    """`judge_fakes` or `generator_penalty` needs the real side."""
    order: ClassVar[int] = 0
    """Where several tricks act at one place, those of a lower order act first; those of the same order as they are listed."""
    bounds_slope: ClassVar[bool] = False
    """It keeps the discriminator's slope bounded, as a Wasserstein critic needs."""
    prior: ClassVar[str] = ""
    """What `latents` makes of latents z: an expression and the distribution that it has, for whoever uses an exported generator."""
    per_rank: ClassVar[frozenset[str]] = frozenset()
    """Its buffers that differ between ranks. All others are shared: equal on all ranks, and kept so by the trick itself."""

    def build(self, model: Model, loss: Loss) -> None:
        """First round, once: add modules to the players, and take what is needed of the model and of the loss."""

    def wrap(self, generator: nn.Module, discriminator: nn.Module) -> None:
        """Second round: change modules that exist."""

    def ready(self, generator: nn.Module, discriminator: nn.Module) -> None:
        """Third round: both players are as they will be trained. Once more if their weights are replaced before training."""

    def begin(self, images_seen: int, numbers: Mapping[str, Tensor]) -> None:
        """At the start of an iteration, outside any graph. `numbers` maps the name of a setting (`optimizer.discriminator.lr`,
        `trick.r1.weight`) to the 0-dim tensor that its owner reads; a schedule writes into it in place.
        """

    def turns(self, iteration: int, turns: Turns, costs: Costs | None) -> Turns:
        """How many updates each player gets, outside any graph. There are no costs before both have had a turn."""
        return turns

    def opponent(self, player: Player, iteration: int) -> AbstractContextManager[None]:
        """Held while the other player is updated, outside any graph: old weights can stand in for `player`, copied in place and back."""
        return nullcontext()

    def latents(self, latents: Tensor) -> Tensor:
        """Standard normal latents (N, latent_size) to the prior's, in training, sampling and metrics alike."""
        return latents

    def view(self, images: Tensor) -> Tensor:
        """What the discriminator sees of images, real or fake."""
        return images

    def replay(self, fake: Example) -> Example:
        """The fakes of the discriminator's update."""
        return fake

    def targets(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Soft labels, shaped like the logits: 1 and 0 at first."""
        return real, fake

    def judge_both(self, judge: Judge, real: Example, fake: Example) -> tuple[Side, Side]:
        """How the discriminator judges both sides in its own update: in two batches. At most one chosen trick acts here."""
        return judge(real), judge(fake)

    def judge_fakes(self, judge: Judge, real: Example | None, fake: Example) -> tuple[Side | None, Side]:
        """How the discriminator judges in the generator's update. `real` is None where nothing needs it. At most one chosen trick acts here."""
        return real and judge(real), judge(fake)

    def penalty(self, real: Side, fake: Side, judge: Judge) -> Tensor:
        """A scalar added to the discriminator's cost, and logged as `penalty/<trick>`."""
        raise NotImplementedError

    def weights(self, logits: Tensor, weights: Tensor) -> Tensor:
        """The weight of each fake in the generator's cost; they sum to the number of logits."""
        return weights

    def generator_cost(self, cost: Tensor, real: Side | None, fake: Side) -> Tensor:
        """The generator's adversarial cost, a scalar, as it is minimized; what is logged is the cost before any change here."""
        return cost

    def generator_penalty(self, real: Side | None, fake: Side, judge: Judge) -> Tensor:
        """A scalar added to the generator's cost, and logged as `penalty/<trick>`."""
        raise NotImplementedError

    def gradients(self, player: Player, parameters: Sequence[nn.Parameter]) -> None:
        """Change the gradients in place, after they have been averaged over ranks and before the optimizer's step."""

    def after_discriminator(self, discriminator: nn.Module, real: Side, fake: Side) -> None:
        """After the discriminator's step."""

    def after_generator(self, generator: nn.Module) -> None:
        """After the generator's step."""

    def sampler(self, generator: nn.Module) -> nn.Module:
        """The generator that samples and metrics are drawn from."""
        return generator

    def report(self) -> dict[str, Tensor]:
        """Scalars to log."""
        return {}


class Tricks(nn.Module):
    """The chosen tricks, in order. Who acts where is settled once, here; a place at which nobody acts costs nothing."""

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
        self._every = {name: trick.every_updates for name, trick in chosen.items()}
        self._slopes = {name: trick.slopes for name, trick in chosen.items()}

    def attach(self, model: Model, loss: Loss) -> None:
        """The three rounds over all tricks, so that their order does not matter."""
        self._notify("build", model, loss)
        self._notify("wrap", model.generator, model.discriminator)
        self.ready(model.generator, model.discriminator)

    def ready(self, generator: nn.Module, discriminator: nn.Module) -> None:
        """The last of the three rounds; once more where the players' weights are replaced before the first iteration."""
        self._notify("ready", generator, discriminator)

    def begin(self, images_seen: int, numbers: Mapping[str, Tensor]) -> None:
        self._notify("begin", images_seen, numbers)

    def turns(self, iteration: int, costs: Costs | None) -> Turns:
        turns = Turns(1, 1)
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
        """What is made of standard normal latents, step by step."""
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
        """The tricks whose penalty is due in the player's update after so many others."""
        place = "penalty" if player == "discriminator" else "generator_penalty"
        return tuple(name for name in self._acting[place] if updates % self._every[name] == 0)

    def differentiated(self, side: str, due: Sequence[str]) -> bool:
        """Whether a penalty that is due differentiates by the images of this side."""
        return any(side in self._slopes[name] for name in due)

    def penalties(self, due: Sequence[str], real: Side, fake: Side, judge: Judge) -> dict[str, Tensor]:
        """Each penalty of the discriminator that is due, by trick, before it is multiplied by its interval."""
        return {name: self._acting["penalty"][name](real, fake, judge) for name in due}

    def generator_penalties(self, due: Sequence[str], real: Side | None, fake: Side, judge: Judge) -> dict[str, Tensor]:
        """Each penalty of the generator that is due, by trick, before it is multiplied by its interval."""
        return {name: self._acting["generator_penalty"][name](real, fake, judge) for name in due}

    def total(self, penalties: Mapping[str, Tensor]) -> Tensor | float:
        """The sum of penalties, each multiplied by its interval: what it would add up to if it were due in every update."""
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

    def numbers(self) -> dict[str, Tensor]:
        """The settings of all tricks that a schedule may change, by their names in the configuration."""
        return {
            f"trick.{trick}.{name}": number for trick, module in self.chosen.named_children() for name, number in numbers(module).items()
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


def numbers(trick: nn.Module) -> dict[str, Tensor]:
    """The settings of a trick that a schedule may change, by name, as the 0-dim buffers that the trick reads."""
    return {name: buffer for name, buffer in trick.named_buffers(recurse=False) if buffer.ndim == 0 and buffer.is_floating_point()}


def refuse_vectors(trick: str, config: DictConfig, why: str) -> None:
    """Refuse a trick that needs one output of D per image with a loss for which D gives vectors."""
    if get_class(config.loss._target_).of_vectors:
        raise ConfigurationError(
            f"trick={trick}: loss={config.loss._target_.split('.')[-2]} has D give vectors, {why}; choose another loss"
        )


def refuse_without_soft_labels(trick: str, config: DictConfig) -> None:
    """Refuse a trick that softens labels with a loss to which they mean nothing."""
    loss = get_class(config.loss._target_)
    if not loss.soft_labels:
        raise ConfigurationError(
            f"trick={trick}: {loss.__name__} has no labels that could be softened; leave the trick out, or choose another loss"
        )
