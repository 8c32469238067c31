"""What a loss is: the costs of both players, from what the discriminator says of both sides."""

from typing import ClassVar

from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from twoplayer.distributed import ranks
from twoplayer.errors import ConfigurationError
from twoplayer.models.base import Judge, Model, Side


class Loss(nn.Module):
    """An objective of the game. A subclass writes two or three costs of one line, each from logits to a cost per logit."""

    boundary: ClassVar[float | None] = 0.0
    """The logit at which the discriminator is undecided; None where logits have no absolute meaning."""
    of_vectors: ClassVar[bool] = False
    """The discriminator gives a vector per image, logits (N, num_outputs), instead of one logit, (N)."""
    compares: ClassVar[bool] = False
    """The generator's cost needs the real side too."""
    batchwise: ClassVar[bool] = False
    """A cost of one image depends on the other images of the batch: over several ranks the logits of all are compared."""
    soft_labels: ClassVar[bool] = True
    """Targets between 0 and 1 mean something."""
    batchwise_penalties: ClassVar[bool] = False
    """What a penalty sees of one image depends on the other images of the batch: over several ranks weights differ a little."""
    needs_bounded_slope: ClassVar[bool] = False
    """The costs are meaningful only while something bounds the discriminator's slope."""
    bounds_slope: ClassVar[bool] = False
    """It keeps the discriminator's slope bounded itself."""

    @classmethod
    def refuse(cls, config: DictConfig) -> None:
        """A discriminator of one output per image where the loss is of vectors, or of several where it is not."""
        num_outputs, name = OmegaConf.select(config, "model.discriminator.num_outputs", default=1), config.loss._target_.split(".")[-2]
        if cls.of_vectors and num_outputs == 1:
            raise ConfigurationError(
                f"model.discriminator.num_outputs=1: loss={name} compares vectors; set 2 or more, such as model.discriminator.num_outputs=16"
            )
        if not cls.of_vectors and num_outputs > 1:
            raise ConfigurationError(
                f"model.discriminator.num_outputs={num_outputs}: loss={name} takes one number per image; set model.discriminator.num_outputs=1"
            )

    def build(self, model: Model) -> None:
        """Once, before training and before any trick has changed the model: make what depends on it."""

    def real(self, logits: Tensor) -> Tensor:
        """The discriminator's cost of calling a real image real."""
        raise NotImplementedError

    def fake(self, logits: Tensor) -> Tensor:
        """The discriminator's cost of calling a fake fake."""
        raise NotImplementedError

    def fool(self, logits: Tensor) -> Tensor:
        """The generator's cost of a fake."""
        return self.real(logits)

    def discriminator(self, real: Side, fake: Side, real_target: Tensor, fake_target: Tensor) -> Tensor:
        """The discriminator's cost, a scalar. A target t, shaped like the logits, weighs the two answers: t for real, 1 - t for fake."""
        on_real = real_target * self.real(real.logits) + (1 - real_target) * self.fake(real.logits)
        on_fake = fake_target * self.real(fake.logits) + (1 - fake_target) * self.fake(fake.logits)
        return on_real.mean() + on_fake.mean()

    def generator(self, fake: Side, real: Side | None, weights: Tensor) -> Tensor:
        """The generator's cost, a scalar. The weights, one per logit, sum to the number of logits; `real` is given where the loss compares."""
        return (weights * self.fool(fake.logits)).mean()

    def gather(self, values: Tensor) -> Tensor:
        """One value per logit (N, ...): those of all ranks, in order, where the loss is `batchwise`, else as they are."""
        return ranks.concatenate(values) if self.batchwise else values

    def gather_side(self, side: Side) -> Side:
        """A side as the costs take it: its logits are gathered."""
        return side._replace(logits=self.gather(side.logits))

    def penalized(self, judge: Judge, real: Side, fake: Side, all_real: Side, all_fake: Side) -> tuple[Side, Side, Judge]:
        """What penalties of the discriminator see: both sides of this rank, and the judge of further examples.

        `all_real` and `all_fake` are the sides that the cost is of: with the logits of all ranks where the loss is `batchwise`.
        """
        return real, fake, judge

    def output(self, logits: Tensor) -> Tensor:
        """What the literature calls D(x): a probability for the losses that give one, else the logit itself."""
        return logits

    def judgement(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """How the discriminator fares, to be logged, from the logits of both sides: the mean of D(x) and of D(G(z)), its accuracy at
        the boundary, and how often it puts a real image above a fake. Nothing for vectors.
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
        """Update what the loss keeps between iterations, in its buffers, from both sides of the discriminator's turn."""

    def report(self) -> dict[str, Tensor]:
        """Scalars to log."""
        return {}
