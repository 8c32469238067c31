"""The only LightningModule: the training step that all losses, tricks and models share."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from twoplayer import lightning_private, randomness
from twoplayer.data.base import Data, to_unit_range
from twoplayer.distributed import ranks
from twoplayer.errors import ConfigurationError
from twoplayer.game import optimizers as optimization
from twoplayer.game import sharing
from twoplayer.game.capture import changed_tensors
from twoplayer.game.clock import Clock
from twoplayer.game.engine import Engine, Precision, autocast
from twoplayer.game.rounds import Round, detached, named
from twoplayer.losses.base import Loss
from twoplayer.metrics.base import Meaning
from twoplayer.models.base import Batch, Example, Model, Picture, Side, evaluating
from twoplayer.tricks.base import Draw, Player, Tricks

GOLDEN_RATIO = (1 + 5**0.5) / 2

OptimizerFactory = Callable[[Sequence[nn.Parameter]], torch.optim.Optimizer]


class Game(LightningModule):
    """Two players, trained in turn.

    The device work of a turn has two layers: `..._gradients` only computes one player's gradients,
    and `update_...` is the whole update around it. `Tricks` settles which tricks act where.

    From the first non-finite gradient on, all gradients are zeroed on the device, on all ranks
    alike, and `finite` stays False. So non-finite numbers never reach the weights.
    """

    def __init__(
        self,
        model: Model,
        loss: Loss,
        tricks: Tricks,
        optimizers: Mapping[Player, OptimizerFactory],
        engine: Engine,
        *,
        batch_size: int,
        classes: Sequence[int],
        seed: int,
        precision: Precision,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.classes, self.seed, self.precision = tuple(classes), seed, precision
        self.model, self.loss, self.tricks, self.clock = model.to(memory_format=torch.channels_last), loss, tricks, Clock(batch_size)  # type: ignore[call-overload]
        loss.build(model)
        tricks.attach(model, loss)
        self.player_parameters: dict[Player, list[nn.Parameter]] = {
            "discriminator": list(model.discriminator.parameters()),
            "generator": list(model.generator.parameters()),
        }
        self.player_optimizers = {
            player: optimizers[player](parameters) for player, parameters in self.player_parameters.items() if parameters
        }
        self._sources: tuple[Tensor, Tensor] | None = None
        self._shares = torch.arange(1, len(classes) + 1, dtype=torch.float64) / len(classes)  # cumulative
        self.register_buffer("finite", torch.tensor(True))
        self.finite: Tensor
        self.scalars: dict[str, Tensor] = {}
        self.engine = engine
        self._gradients = {
            "discriminator": engine.executable_gradients(self.discriminator_gradients),
            "generator": engine.executable_gradients(self.generator_gradients),
        }
        raw = self.player_optimizers.values()
        state, baked = partial(changed_tensors, self, raw), partial(optimization.read_on_host, raw)
        self._update = {
            "discriminator": engine.executable_update(self.update_discriminator, state, baked),
            "generator": engine.executable_update(self.update_generator, state, baked),
        }

    def training_step(self, batch: Batch, batch_index: int) -> None:
        """One iteration, which Lightning counts as one step."""
        self.iterate(batch)
        lightning_private.count_step(self.trainer)

    def iterate(self, batch: Batch) -> None:
        """The discriminator's turns, then the generator's, on one real batch."""
        clock = self.clock
        self.scalars = {}
        randomness.restart(self.seed, "iteration", clock.iteration, ranks.rank())
        self.tricks.begin(clock.images_seen, self.numbers)
        discriminator_turns, generator_turns = clock.turns(self.tricks)
        with self.tricks.opponent("generator", clock.iteration):
            for turn in range(discriminator_turns):
                self._turn("discriminator", batch, turn)
        with self.tricks.opponent("discriminator", clock.iteration):
            for turn in range(generator_turns):
                self._turn("generator", batch, turn)
        clock.count_iteration()

    def _turn(self, player: Player, batch: Batch, turn: int) -> None:
        latents = self.rank_latents(player, turn)
        due = self.tricks.due(player, self.clock.updates[player])
        cost, scalars = self._update[player](batch, latents, due)
        self.clock.count_update(player, cost)
        self.scalars.update(scalars)

    def discriminator_gradients(self, batch: Batch, latents: Tensor, due: tuple[str, ...]) -> Round:
        """Judge both sides and compute the discriminator's gradients; `due` names the penalties."""
        with autocast(self.precision, self.device):
            with torch.no_grad():
                real_example, fake_example = self.model.real(batch, latents), self.tricks.replay(self.fake(batch, latents))
            real, fake = self.tricks.judge_both(
                self.judge, self._differentiable(real_example, "real", due), self._differentiable(fake_example, "fake", due)
            )
            targets = self.tricks.targets(real.logits, fake.logits)
            all_real, all_fake = self.loss.gather_side(real), self.loss.gather_side(fake)
            cost = self.loss.discriminator(all_real, all_fake, *map(self.loss.gather, targets))
            penalties = self.tricks.penalties(due, *self.loss.penalized(self.judge, real, fake, all_real, all_fake))
            costs = self.model.discriminator_costs(batch, self.judge)
        (cost + sum(costs.values(), self.tricks.total(penalties))).backward(inputs=self.player_parameters["discriminator"])
        return detached(Round(cost, {**named("loss", costs), **named("penalty", penalties)}, real, fake))

    def generator_gradients(self, batch: Batch, latents: Tensor, due: tuple[str, ...]) -> Round:
        """Judge new fakes, and real images if needed, and compute the generator's gradients."""
        with autocast(self.precision, self.device):
            fake_example = self.fake(batch, latents)
            real_example = (
                self.model.real(batch, latents) if self.loss.compares or self.tricks.needs_real or self.model.needs_real else None
            )
            real, fake = self.tricks.judge_fakes(self.judge, real_example, fake_example)
            weights = self.tricks.weights(fake.logits)
            cost = self.loss.generator(self.loss.gather_side(fake), real and self.loss.gather_side(real), self.loss.gather(weights))
            minimized = self.tricks.generator_cost(cost, real, fake)
            penalties = self.tricks.generator_penalties(due, real, fake, self.judge)
            costs = self.model.generator_costs(batch, real, fake, self.judge, self.loss.hide)
        (minimized + sum(costs.values(), self.tricks.total(penalties))).backward(inputs=self.player_parameters["generator"])
        return detached(Round(cost, {**named("loss", costs), **named("generator_penalty", penalties)}, real, fake))

    def update_discriminator(self, batch: Batch, latents: Tensor, due: tuple[str, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        """The whole update. Returns the cost, averaged over ranks, and the scalars to log."""
        result, norm = self._step("discriminator", batch, latents, due)
        assert result.real is not None
        self.tricks.after_discriminator(self.model.discriminator, result.real, result.fake)
        self.loss.update(result.real, result.fake)
        return result.cost, {**result.scalars("discriminator", norm), **self.loss.judgement(result.real.logits, result.fake.logits)}

    def update_generator(self, batch: Batch, latents: Tensor, due: tuple[str, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        """The whole update. Returns the cost, averaged over ranks, and the scalars to log."""
        result, norm = self._step("generator", batch, latents, due)
        self.tricks.after_generator(self.model.generator)
        return result.cost, result.scalars("generator", norm)

    def _step(self, player: Player, batch: Batch, latents: Tensor, due: tuple[str, ...]) -> tuple[Round, Tensor]:
        """Compute, average, check and apply the gradients. Returns also their norm."""
        parameters, optimizer = self.player_parameters[player], self.player_optimizers[player]
        optimizer.zero_grad()
        result: Round = self._gradients[player](batch, latents, due)
        gradients = optimization.gradients_of(parameters)
        if ranks.world_size() > 1:
            ranks.average_in_place([result.cost, *gradients, *sharing.statistics(self.model)])
        norm = get_total_norm(gradients)
        self.finite.logical_and_(norm.isfinite())
        spoiled = ~self.finite
        for gradient in gradients:
            gradient.masked_fill_(spoiled, 0.0)
        self.tricks.gradients(player, parameters)
        optimizer.step()
        return result, norm

    def judge(self, example: Example) -> Side:
        """The discriminator's output on an example after the tricks' view; logits are float32."""
        logits, features = self.model.judge(example._replace(images=self.tricks.view(example.images)))
        return Side(*example, logits.float(), features)

    def fake(self, batch: Batch, latents: Tensor) -> Example:
        """Fakes in float32, as real images are, whatever the precision of the update."""
        example = self.model.fake(batch, latents)
        return example._replace(images=example.images.float())

    def _differentiable(self, example: Example, side: str, due: Sequence[str]) -> Example:
        """The example; its images require gradients if a due penalty differentiates by them."""
        return example._replace(images=example.images.detach().requires_grad_(self.tricks.differentiated(side, due)))

    def rank_latents(self, player: Player, turn: int) -> Tensor:
        """This rank's slice of an update's latents, which are drawn for the global batch."""
        size = self.clock.batch_size // ranks.world_size()
        start = ranks.rank() * size
        return self.latents(self.clock.batch_size, player, self.clock.iteration, turn)[start : start + size]

    def latents(self, num: int, *place: int | str) -> Tensor:
        """`num` latents (num, latent_size) of the prior, a function of the seed and of `place`."""
        generator = randomness.generator(self.device, self.seed, "latents", *place)
        return self.tricks.latents(torch.randn(num, self.model.latent_size, generator=generator, device=self.device))

    def labels(self, num: int) -> Tensor:
        """Labels (num) of samples: each class of the data in turn."""
        return torch.tensor(self.classes, device=self.device)[torch.arange(num, device=self.device) % len(self.classes)]

    def take_told(self, data: Data) -> None:
        """Take from the data what G is told of samples that are scored.

        These are the shares of classes in the training split, and the sources of the test split.
        """
        labels = data.splits.train.labels
        self._shares = torch.stack([(labels == number).sum() for number in self.classes]).double().cumsum(0)
        self._shares /= self._shares[-1].clone()
        sources = data.source_images("test") if self.model.translates else None
        self._sources = None if sources is None else (sources, data.splits.test.labels)

    def scored_labels(self, num: int, first: int = 0) -> Tensor:
        """Labels (num) of samples that are scored, from the place `first` of one sequence on.

        They have the shares of the training split, nearly so in every part of the sequence, since
        the multiples of the golden ratio fill [0, 1) evenly (Kuipers and Niederreiter, 1974).
        """
        places = (torch.arange(first, first + num, dtype=torch.float64) + 0.5) * GOLDEN_RATIO % 1
        return torch.tensor(self.classes)[torch.bucketize(places, self._shares, right=True)].to(self.device)

    def told(self, num: int, first: int = 0, scored: bool = False) -> Tensor:
        """What the generator is told of `num` samples: their labels, or their sources (N, ...).

        Labels are the classes in turn, or `scored_labels`. Sources are those of the test split in
        turn. Those of scores begin at the place `first`.
        """
        if not self.model.translates:
            return self.scored_labels(num, first) if scored else self.labels(num)
        if self._sources is None:
            raise ConfigurationError("this model translates images and draws none from nothing; name the images with source=<folder>")
        return to_unit_range(self._sources[0][self._places(num, first)].to(self.device))

    def _places(self, num: int, first: int) -> Tensor:
        assert self._sources is not None
        return torch.arange(first, first + num) % len(self._sources[1])

    @property
    def meaning(self) -> Meaning | None:
        """What the classes of samples are."""
        told = self.model.conditional or (self.model.translates and len(self.classes) > 1)
        coded = self.tricks.has_code or type(self.model).code is not Model.code
        return "labels" if told else "codes" if coded else None

    def classes_of(self, latents: Tensor, first: int = 0) -> Tensor:
        """The classes (N) that scored samples from these latents, and from `told`, shall have."""
        if self.model.translates and self._sources is not None:
            return self._sources[1][self._places(len(latents), first)].to(latents.device)
        if self.model.conditional:
            return self.scored_labels(len(latents), first)
        code = self.model.code(latents)
        return self.tricks.code(latents) if code is None else code

    @torch.no_grad()
    def sample(self, latents: Tensor, told: Tensor) -> Tensor:
        """Float32 images in [-1, 1], the same for the same latents; training is not affected.

        `told` are labels (N), or the sources (N, ...) of a model that translates.
        """
        generator = self.tricks.sampler(self.model.generator)
        with evaluating(generator, latents.device):
            randomness.restart(self.seed, "sampling", latents.cpu().numpy().tobytes().hex())
            images: Tensor = generator(latents, told)
        return images

    @torch.no_grad()
    def output(self, examples: Tensor) -> Tensor | None:
        """D(x) of the literature (N) for examples (N, ...), as the loss defines it.

        None for losses of vectors, and where D judges no images. If D judges packs, each is of one
        example repeated.
        """
        if self.loss.of_vectors or not self.model.judges_images:
            return None
        repeated = examples.repeat_interleave(self.tricks.images_per_logit, 0)
        with evaluating(self.model, examples.device):
            randomness.restart(self.seed, "output")
            return self.loss.output(self.judge(self.model.example(repeated, self.labels(len(repeated)))).logits)

    @torch.no_grad()
    def measures(self, batch: Batch) -> dict[str, Tensor]:
        """The model's own numbers (N) of a held-out batch; training is not affected."""
        with self._as_sampled(self.device):
            return self.model.measures(batch)

    @torch.no_grad()
    def encode(self, images: Tensor, labels: Tensor) -> Tensor | None:
        """The codes (N, d) of images, if the model has an encoder; training is not affected."""
        with self._as_sampled(images.device):
            return self.model.encode(images, labels)

    @torch.no_grad()
    def clusters(self, images: Tensor, labels: Tensor) -> Tensor | None:
        """The categories (N) of images, if the model finds some; training is not affected."""
        with self._as_sampled(images.device):
            return self.model.clusters(images, labels)

    @torch.no_grad()
    def pictures(self, batch: Batch) -> dict[str, Picture]:
        """What model and tricks show at the end of a run, by name; training is not affected.

        `batch` is a held-out one, of which as many images are shown as fill packs.
        """
        num = len(batch[0]) // self.tricks.images_per_logit * self.tricks.images_per_logit
        draw = Draw(lambda num: self.latents(num, "pictures"), lambda latents: self.sample(latents, self.told(len(latents))))
        with self._as_sampled(self.device):
            randomness.restart(self.seed, "pictures")
            shown = self.model.pictures(tuple(part[:num] for part in batch), self.tricks.view)
        return {**shown, **self.tricks.pictures(draw)}

    @contextmanager
    def _as_sampled(self, device: torch.device) -> Iterator[None]:
        """Hold the model in evaluation mode, with the generator that samples are drawn from."""
        trained = self.model.generator
        with evaluating(self.model, device):
            self.model.generator = self.tricks.sampler(trained)
            try:
                with evaluating(self.model.generator, device):
                    yield
            finally:
                self.model.generator = trained

    @property
    def numbers(self) -> dict[str, Tensor]:
        """The 0-dim tensors that a schedule may change, by their names in the configuration."""
        return {**self.tricks.numbers(), **optimization.numbers(self.player_optimizers)}

    def report(self) -> dict[str, Tensor]:
        """Scalars to log in addition to `scalars`."""
        return {**{f"loss/{name}": value for name, value in self.loss.report().items()}, **self.tricks.report()}

    def load_players(self, state: Mapping[str, Tensor]) -> None:
        """Load another game's players before training. Raises RuntimeError if they do not fit."""
        self.model.load_state_dict({name.removeprefix("model."): tensor for name, tensor in state.items() if name.startswith("model.")})
        self.tricks.ready(self.model.generator, self.model.discriminator)

    def shared_state(self) -> Iterator[tuple[str, Tensor]]:
        """All state that is equal on every rank, by name."""
        return sharing.shared_state(self, self.tricks)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """The raw optimizers, so that Lightning saves them; the game steps them itself."""
        return list(self.player_optimizers.values())

    def on_fit_start(self) -> None:
        self.take_told(self.trainer.datamodule)  # type: ignore[attr-defined]

    def on_train_start(self) -> None:
        self.engine.settle(list(self.player_optimizers.values()), self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        sharing.save_rank_state(checkpoint, self.tricks)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        sharing.load_rank_state(checkpoint)
