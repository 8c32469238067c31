"""The two-player game: the only LightningModule, with the training step that all losses, tricks and models share."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from twoplayer import randomness
from twoplayer.distributed import ranks
from twoplayer.game.clock import Clock
from twoplayer.game.engine import Eager, Precision, autocast
from twoplayer.losses.base import Loss
from twoplayer.models.base import Batch, Example, Model, Side
from twoplayer.tricks.base import Player, Trick, Tricks, numbers

OptimizerFactory = Callable[[Sequence[nn.Parameter]], torch.optim.Optimizer]


class Round(NamedTuple):
    """What one computation of gradients leaves: the adversarial cost of the player, the penalties by trick, and both sides as they were judged."""

    cost: Tensor
    penalties: dict[str, Tensor]
    real: Side | None
    fake: Side


class Game(LightningModule):
    """Two players, trained in turn. All device work of a turn is in two layers: `..._gradients` computes the gradients of one
    player, and nothing else; `update_...` is the whole update around it. Who acts at which place is settled in `Tricks`.

    Non-finite gradients never reach the weights: from the first one on, all gradients are zeroed on the device, on all ranks
    alike, and `finite` says so until someone reads it.
    """

    def __init__(
        self,
        model: Model,
        loss: Loss,
        tricks: Tricks,
        optimizers: Mapping[Player, OptimizerFactory],
        engine: Eager,
        *,
        batch_size: int,
        num_classes: int,
        seed: int,
        precision: Precision,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.num_classes, self.seed, self.precision = num_classes, seed, precision
        self.model, self.loss, self.tricks, self.clock = model.to(memory_format=torch.channels_last), loss, tricks, Clock(batch_size)  # type: ignore[call-overload]
        tricks.attach(model.generator, model.discriminator)
        self.player_parameters: dict[Player, list[nn.Parameter]] = {
            "discriminator": list(model.discriminator.parameters()),
            "generator": list(model.generator.parameters()),
        }
        self.player_optimizers = {
            player: optimizers[player](parameters) for player, parameters in self.player_parameters.items() if parameters
        }
        self.register_buffer("finite", torch.tensor(True))
        self.finite: Tensor
        self.scalars: dict[str, Tensor] = {}
        self._gradients = {
            "discriminator": engine.gradients(self.discriminator_gradients),
            "generator": engine.gradients(self.generator_gradients),
        }
        self.engine = engine
        self._update = {
            player: engine.update(update, self._state, self._read_on_host)
            for player, update in (("discriminator", self.update_discriminator), ("generator", self.update_generator))
        }

    def training_step(self, batch: Batch, batch_index: int) -> None:
        """One iteration, of which Lightning keeps a count of its own."""
        self.iterate(batch)
        self._count_for_lightning()

    def iterate(self, batch: Batch) -> None:
        """The turns of the discriminator, then those of the generator, on one real batch."""
        clock = self.clock
        self.scalars = {}
        randomness.restart(self.seed, "iteration", clock.iteration, ranks.rank())
        self.tricks.begin(clock.images_seen, self.numbers)
        discriminator_turns, generator_turns = clock.turns(self.tricks)
        with self.tricks.opponent("generator", clock.iteration):
            for turn in range(discriminator_turns):
                self._play("discriminator", batch, turn)
        with self.tricks.opponent("discriminator", clock.iteration):
            for turn in range(generator_turns):
                self._play("generator", batch, turn)
        clock.count_iteration()

    def _play(self, player: Player, batch: Batch, turn: int) -> None:
        """One update of one player."""
        latents = self.rank_latents(player, turn)
        due = self.tricks.due(player, self.clock.updates[player])
        cost, scalars = self._update[player](batch, latents, due)
        self.clock.count_update(player, cost)
        self.scalars.update(scalars)

    def discriminator_gradients(self, batch: Batch, latents: Tensor, due: tuple[str, ...]) -> Round:
        """Judge both sides and fill the discriminator's gradients; `due` names the penalties of this update."""
        with autocast(self.precision, self.device):
            with torch.no_grad():
                real, fake = self.model.real(batch, latents), self.tricks.replay(self._floats(self.model.fake(batch, latents)))
            real, fake = self._differentiable(real, "real", due), self._differentiable(fake, "fake", due)
            from_real, from_fake = self.tricks.judge_both(self.judge, real, fake)
            real_side, fake_side = Side(*real, *from_real), Side(*fake, *from_fake)
            targets = self.tricks.targets(real_side.logits, fake_side.logits)
            compared = self._compared(real_side), self._compared(fake_side)
            cost = self.loss.discriminator(*compared, *map(self._gathered, targets))

            def critic(logits: Tensor) -> Tensor:
                return self.loss.critic(logits, *compared)

            def judge(example: Example) -> tuple[Tensor, Tensor]:
                logits, features = self.judge(example)
                return critic(logits), features

            penalties = self.tricks.penalties(
                due, real_side._replace(logits=critic(real_side.logits)), fake_side._replace(logits=critic(fake_side.logits)), judge
            )
        (cost + self.tricks.total(penalties)).backward(inputs=self.player_parameters["discriminator"])
        return Round(cost.detach(), _all_detached(penalties), _detached(real_side), _detached(fake_side))

    def generator_gradients(self, batch: Batch, latents: Tensor, due: tuple[str, ...]) -> Round:
        """Judge fresh fakes, and the real side where the loss or a trick compares, and fill the generator's gradients."""
        with autocast(self.precision, self.device):
            fake = self._floats(self.model.fake(batch, latents))
            real = self.model.real(batch, latents) if self.loss.compares or self.tricks.needs_real else None
            from_real, from_fake = self.tricks.judge_fakes(self.judge, real, fake)
            fake_side = Side(*fake, *from_fake)
            real_side = real and from_real and Side(*real, *from_real)
            weights = self._gathered(self.tricks.weights(fake_side.logits))
            cost = self.loss.generator(self._compared(fake_side), real_side and self._compared(real_side), weights)
            minimized = self.tricks.generator_cost(cost, real_side, fake_side)
            penalties = self.tricks.generator_penalties(due, real_side, fake_side, self.judge)
        (minimized + self.tricks.total(penalties)).backward(inputs=self.player_parameters["generator"])
        return Round(cost.detach(), _all_detached(penalties), real_side and _detached(real_side), _detached(fake_side))

    def update_discriminator(self, batch: Batch, latents: Tensor, due: tuple[str, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        """The whole update; returns the cost, averaged over ranks, and what there is to log."""
        (cost, penalties, real, fake), norm = self._step("discriminator", batch, latents, due)
        assert real is not None
        self.tricks.after_discriminator(self.model.discriminator, real, fake)
        self.loss.update(real, fake)
        return cost, {**_scalars("discriminator", cost, penalties, norm), **self._judgement(real.logits, fake.logits)}

    def update_generator(self, batch: Batch, latents: Tensor, due: tuple[str, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        """The whole update; returns the cost, averaged over ranks, and what there is to log."""
        (cost, penalties, _, _), norm = self._step("generator", batch, latents, due)
        self.tricks.after_generator(self.model.generator)
        return cost, _scalars("generator", cost, penalties, norm)

    def _step(self, player: Player, batch: Batch, latents: Tensor, due: tuple[str, ...]) -> tuple[Round, Tensor]:
        """Gradients, one all-reduce, the guard against non-finite ones, the tricks, the optimizer. Returns also the gradient's norm."""
        parameters, optimizer = self.player_parameters[player], self.player_optimizers[player]
        optimizer.zero_grad()
        result: Round = self._gradients[player](batch, latents, due)
        gradients = [_gradient(parameter) for parameter in parameters]
        if ranks.world_size() > 1:
            ranks.average_in_place([result.cost, *gradients, *self._statistics()])
        norm = get_total_norm(gradients)
        self.finite.logical_and_(norm.isfinite())
        spoiled = ~self.finite
        for gradient in gradients:
            gradient.masked_fill_(spoiled, 0.0)
        self.tricks.gradients(player, parameters)
        optimizer.step()
        return result, norm

    def judge(self, example: Example) -> tuple[Tensor, Tensor]:
        """What the discriminator says of an example as it sees it, through the tricks' view: logits in float32, features."""
        logits, features = self.model.judge(example._replace(images=self.tricks.view(example.images)))
        return logits.float(), features

    def rank_latents(self, player: Player, turn: int) -> Tensor:
        """This rank's slice of the latents of one update: those of the global batch, so that two ranks draw what one would."""
        size = self.clock.batch_size // ranks.world_size()
        start = ranks.rank() * size
        return self.latents(self.clock.batch_size, player, self.clock.iteration, turn)[start : start + size]

    def latents(self, num: int, *place: int | str) -> Tensor:
        """`num` latents (num, latent_size) of the prior, a function of the seed and of the place they are used at."""
        generator = randomness.generator(self.device, self.seed, "latents", *place)
        return self.tricks.latents(torch.randn(num, self.model.latent_size, generator=generator, device=self.device))

    @torch.no_grad()
    def sample(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Images in [-1, 1], in float32, by the generator that samples are drawn from; training is not touched.

        The same latents give the same images, by a generator that draws more than latents, too.
        """
        generator = self.tricks.sampler(self.model.generator)
        was_training = generator.training
        generator.eval()
        with randomness.aside(latents.device):
            randomness.restart(self.seed, "sampling", latents.cpu().numpy().tobytes().hex())
            images: Tensor = generator(latents, labels)
        generator.train(was_training)
        return images

    @property
    def numbers(self) -> dict[str, Tensor]:
        """The settings that a schedule may change, by the name they have in the configuration, as the tensors that their owners read."""
        found = {
            f"trick.{trick}.{name}": number
            for trick, module in self.tricks.chosen.named_children()
            for name, number in numbers(module).items()
        }
        for player, optimizer in self.player_optimizers.items():
            for group in optimizer.param_groups:
                betas = dict(zip(("beta1", "beta2"), group.get("betas", ()), strict=False))
                found |= {f"optimizer.{player}.{name}": value for name, value in {"lr": group["lr"], **betas}.items()}
        return found

    def shared_state(self) -> Iterator[tuple[str, Tensor]]:
        """All state that is the same on every rank, by name: parameters, and all buffers but those that a trick declares its rank's own."""
        own = self.rank_state()
        yield from (
            (name, tensor) for name, tensor in self.state_dict(keep_vars=True).items() if isinstance(tensor, Tensor) and name not in own
        )

    def rank_state(self) -> dict[str, Tensor]:
        """The buffers that tricks declare each rank's own, by name."""
        return {
            f"tricks.chosen.{name}.{buffer}": trick.get_buffer(buffer)
            for name, trick in self.tricks.chosen.items()
            for buffer in sorted(cast(Trick, trick).per_rank)
        }

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """The raw optimizers, so that Lightning saves them; the game steps them itself."""
        return list(self.player_optimizers.values())

    def on_train_start(self) -> None:
        """The last moment before the first iteration."""
        self.engine.settle(list(self.player_optimizers.values()), self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What each rank has of its own is kept by rank; all ranks take part."""
        own = [ranks.gather(tensor) for tensor in self.rank_state().values()]
        checkpoint["per_rank"] = [dict(zip(self.rank_state(), tensors, strict=True)) for tensors in zip(*own, strict=True)]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Each rank gets its own back."""
        if checkpoint["per_rank"]:
            checkpoint["state_dict"] |= checkpoint["per_rank"][ranks.rank()]

    def load_players(self, state: Mapping[str, Tensor]) -> None:
        """Before the first iteration: the players' weights are those of another game. Raises RuntimeError where they do not fit."""
        self.model.load_state_dict({name.removeprefix("model."): tensor for name, tensor in state.items() if name.startswith("model.")})
        self.tricks.ready(self.model.generator, self.model.discriminator)

    def report(self) -> dict[str, Tensor]:
        """What there is to log besides `scalars`."""
        return {**{f"loss/{name}": value for name, value in self.loss.report().items()}, **self.tricks.report()}

    def _judgement(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """How the discriminator fares: D(x) and D(G(z)), its accuracy at the loss's boundary, and how often it puts a real image above a fake."""
        if real.ndim > 1:
            return {}
        scalars = {"output/real": self.loss.output(real).mean(), "output/fake": self.loss.output(fake).mean()}
        ordered = (real[:, None] > fake).float().mean()
        if self.loss.boundary is None:
            return {**scalars, "accuracy/pairs": ordered, "accuracy": ordered}
        on_real, on_fake = (real > self.loss.boundary).float().mean(), (fake < self.loss.boundary).float().mean()
        return {
            **scalars,
            "accuracy/real": on_real,
            "accuracy/fake": on_fake,
            "accuracy/pairs": ordered,
            "accuracy": (on_real + on_fake) / 2,
        }

    def _differentiable(self, example: Example, side: str, due: Sequence[str]) -> Example:
        return example._replace(images=example.images.detach().requires_grad_(self.tricks.differentiated(side, due)))

    def _compared(self, side: Side) -> Side:
        """A side as the loss sees it: with the logits of all ranks, where the loss compares the images of a batch with each other."""
        return side._replace(logits=self._gathered(side.logits))

    def _gathered(self, values: Tensor) -> Tensor:
        return ranks.concatenate(values) if self.loss.batchwise else values

    def _floats(self, example: Example) -> Example:
        """Fakes in float32, as real images are, whatever precision they were made in."""
        return example._replace(images=example.images.float())

    def _statistics(self) -> list[Tensor]:
        """The players' own running statistics, which each rank has moved by its slice of the batch."""
        return [buffer for buffer in self.model.buffers() if buffer.is_floating_point()]

    def _state(self) -> list[Tensor]:
        """All tensors that an update changes."""
        of_optimizers = (
            value
            for optimizer in self.player_optimizers.values()
            for state in optimizer.state.values()
            for value in state.values()
            if isinstance(value, Tensor)
        )
        return [*(value for value in self.state_dict(keep_vars=True).values() if isinstance(value, Tensor)), *of_optimizers]

    def _read_on_host(self) -> tuple[float, ...]:
        """The numbers that an update reads as Python numbers: Adam's betas, in its fused form."""
        return tuple(
            float(beta)
            for optimizer in self.player_optimizers.values()
            for group in optimizer.param_groups
            for beta in group.get("betas", ())
        )

    def _count_for_lightning(self) -> None:
        """Lightning counts the steps of optimizers that it wraps; ours are raw, and one iteration is one step to it."""
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        progress.increment_ready()
        progress.increment_completed()


def _gradient(parameter: nn.Parameter) -> Tensor:
    """A parameter that had no part in the cost has a gradient of zero, on all ranks."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def _detached(side: Side) -> Side:
    latents = None if side.latents is None else side.latents.detach()
    return Side(side.images.detach(), side.labels, latents, side.logits.detach(), side.features.detach())


def _all_detached(penalties: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: penalty.detach() for name, penalty in penalties.items()}


def _scalars(player: Player, cost: Tensor, penalties: dict[str, Tensor], norm: Tensor) -> dict[str, Tensor]:
    terms = {f"penalty/{name}": penalty for name, penalty in penalties.items()}
    return {f"loss/{player}": cost, **terms, f"gradient_norm/{player}": norm}
