"""The base class of losses: both players' costs, from the discriminator's output on both sides."""

from typing import ClassVar

from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from twoplayer.distributed import ranks
from twoplayer.errors import ConfigurationError
from twoplayer.models.base import Judge, Model, Side
from twoplayer.settings import family


class Loss(nn.Module):
    """An objective. A subclass writes two or three one-line costs: logits to a cost per logit."""

    boundary: ClassVar[float | None] = 0.0
    """The logit at which D is undecided; None if only differences of logits have a meaning."""
    of_vectors: ClassVar[bool] = False
    """The discriminator outputs vectors (N, num_outputs) instead of one logit per image (N)."""
    compares: ClassVar[bool] = False
    """The generator's cost needs the real side too."""
    batchwise: ClassVar[bool] = False
    """The cost of an image depends on the rest of the batch.

    Over several ranks, the logits of all ranks are then gathered.
    """
    soft_labels: ClassVar[bool] = True
    """Targets between 0 and 1 have a meaning."""
    batchwise_penalties: ClassVar[bool] = False
    """What a penalty sees of an image depends on the rest of the batch.

    Weights then differ slightly between one rank and several.
    """
    needs_bounded_slope: ClassVar[bool] = False
    """The costs have a meaning only if something bounds the discriminator's slope."""
    bounded_by: ClassVar[str] = "wgan_gp"
    """The trick that bounds it best, for the advice where none does."""
    needs_discriminator: ClassVar[bool] = True
    """The generator's cost depends on the discriminator."""
    needs_own_costs: ClassVar[bool] = False
    """The generator learns from `Model.generator_costs` alone."""
    restores: ClassVar[bool] = False
    """A fake is compared with the real image at its place in the batch."""
    bounds_slope: ClassVar[bool] = False
    """The loss itself bounds the discriminator's slope."""

    @classmethod
    def refuse(cls, config: DictConfig) -> None:
        """Refuse a discriminator whose number of outputs does not fit the loss."""
        num_outputs, name = OmegaConf.select(config, "model.discriminator.num_outputs", default=1), family(config.loss)
        if cls.of_vectors and num_outputs == 1:
            raise ConfigurationError(
                f"model.discriminator.num_outputs=1: loss={name} compares vectors; set 2 or more, such as model.discriminator.num_outputs=16"
            )
        if not cls.of_vectors and num_outputs > 1:
            raise ConfigurationError(
                f"model.discriminator.num_outputs={num_outputs}: loss={name} takes one number per image; set model.discriminator.num_outputs=1"
            )

    def build(self, model: Model) -> None:
        """Called once, before tricks change the model: create what depends on the model."""

    def real(self, logits: Tensor) -> Tensor:
        """The discriminator's cost for the label real."""
        raise NotImplementedError

    def fake(self, logits: Tensor) -> Tensor:
        """The discriminator's cost for the label fake."""
        raise NotImplementedError

    def fool(self, logits: Tensor) -> Tensor:
        """The generator's cost of a fake."""
        return self.real(logits)

    def hide(self, logits: Tensor) -> Tensor:
        """The cost, a scalar, of an encoder that wants real images to look like fakes.

        It is zero if the loss `compares`: the generator's cost then depends on real images, too.
        """
        return logits.new_zeros(()) if self.compares else self.fake(logits).mean()

    def discriminator(self, real: Side, fake: Side, real_target: Tensor, fake_target: Tensor) -> Tensor:
        """The discriminator's cost, a scalar.

        A target t, shaped like the logits, weighs both labels: t for real, 1 - t for fake.
        """
        on_real = real_target * self.real(real.logits) + (1 - real_target) * self.fake(real.logits)
        on_fake = fake_target * self.real(fake.logits) + (1 - fake_target) * self.fake(fake.logits)
        return on_real.mean() + on_fake.mean()

    def generator(self, fake: Side, real: Side | None, weights: Tensor) -> Tensor:
        """The generator's cost, a scalar.

        The weights, one per logit, sum to the number of logits. `real` is given if the loss
        `compares`.
        """
        return (weights * self.fool(fake.logits)).mean()

    def gather(self, values: Tensor) -> Tensor:
        """Values per logit (N, ...): those of all ranks, in order, if the loss is `batchwise`."""
        return ranks.concatenate(values) if self.batchwise else values

    def gather_side(self, side: Side) -> Side:
        """A side with gathered logits, as the costs take it."""
        return side._replace(logits=self.gather(side.logits))

    def penalized(self, judge: Judge, real: Side, fake: Side, all_real: Side, all_fake: Side) -> tuple[Side, Side, Judge]:
        """What the discriminator's penalties see: both sides of this rank, and the judge.

        `all_real` and `all_fake` are the sides of the cost: if the loss is `batchwise`, they have
        the logits of all ranks.
        """
        return real, fake, judge

    def output(self, logits: Tensor) -> Tensor:
        """D(x) of the literature: a probability for the losses that give one, else the logit."""
        return logits

    def judgement(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Scalars to log about the discriminator, from the logits of both sides.

        These are the means of D(x) and of D(G(z)), the accuracy at the boundary, and how often a
        real image has a larger logit than a fake. There are none for vectors.
        """
        if real.ndim > 1:
            return {}
        scalars = {"output/real": self.output(real).mean(), "output/fake": self.output(fake).mean()}
        ordered = (real[:, None] > fake).float().mean()
        if self.boundary is None:
            return {**scalars, "accuracy/pairs": ordered, "accuracy": ordered}
        on_real, on_fake = (real > self.boundary).float().mean(), (fake < self.boundary).float().mean()
        return {
            **scalars,
            "accuracy/real": on_real,
            "accuracy/fake": on_fake,
            "accuracy/pairs": ordered,
            "accuracy": (on_real + on_fake) / 2,
        }

    def update(self, real: Side, fake: Side) -> None:
        """Update the loss's buffers from both sides, after each update of the discriminator."""

    def report(self) -> dict[str, Tensor]:
        """Scalars to log, by name."""
        return {}
