"""What the referee measures of a game, at each look, on a few samples and real images."""

import torch
from torch import Tensor

from twoplayer import randomness
from twoplayer.data.base import Data, to_unit_range
from twoplayer.data.neighbors import nearest
from twoplayer.game.game import Game
from twoplayer.metrics.features import FeatureExtractor, load_features
from twoplayer.models.base import evaluating

Evidence = dict[str, float]
"""The numbers of one look, by name: `images_seen`, those of `Witness`, and the scalars of training.

The latter are the means since the last look, by the names under which they are logged:
`accuracy/pairs`, `gradient_norm/generator`.
"""

COPY_NUMBERS = 50_000_000
"""The numbers of training images among which copies are sought: all 60,000 of MNIST."""
COPY_SAMPLES = 64
QUANTILE = 0.05
SHARES = (0.1, 0.5, 0.9)
MOST_CLASSES = 20


class Witness:
    """Measures a game on `num` samples, and as many real images that never change.

    - `variation`: the standard deviation of a number (a pixel) over samples, divided by that over
      real images, both as means over all numbers. 0 if all samples are equal.
    - `spread`: the variance of samples in features, divided by that of real images.
    - `spread_within`: the same within the classes that a conditional generator is told, or within
      the codes of an InfoGAN, against the classes of real images.
    - `shift`: the squared distance between the means of samples and of real images in features,
      divided by the variance of real images. A cheap stand-in for `fd`.
    - `classes`: the effective number of classes among samples, exp(entropy) of the classifier's
      answers, divided by that of real images.
    - `order/held_out`: how often D gives a training image a larger logit than an image of the test
      split. 0.5 unless D knows its training images by heart.
    - `classes/<k>`: the share of each class, where there are at most 20.
    - `logits/<side>_<q>`: quantiles of D's logits on training images, on test images (`held_out`)
      and on samples.
    - `copies`: the share of samples that are as near to a training image as the nearest twentieth
      of test images is, in pixels. It is sought only if asked for, since it is slow.

    Features are those of the classifier of the data, or the numbers themselves. Without a
    classifier there are no `classes`; for losses of vectors there is no `order/held_out`.
    """

    def __init__(self, data: Data, device: torch.device, num: int) -> None:
        self._data, self._device = data, device
        self._extract: FeatureExtractor | None = None if data.classifier is None else load_features(data.classifier).to(device)
        self._train, self._test = (self._drawn(name, num) for name in ("train", "test"))
        real = self._features(self._test[0])
        self._mean, self._variance = real.mean(0), real.var(0).sum()
        self._variance_within = _within(real, self._test[1])
        self._deviation = self._test[0].flatten(1).std(0).mean()
        self._classes = None if self._extract is None else _effective(self._answers(real))
        self._near: Tensor | None = None

    def look(self, game: Game, num: int, copies: bool) -> Evidence:
        """The numbers above for a game; training is not affected."""
        latents, told = game.latents(num, "referee"), game.told(num, scored=True)
        samples = game.sample(latents, told).float()
        features = self._features(samples)
        found = {
            "variation": samples.flatten(1).std(0).mean() / self._deviation,
            "spread": features.var(0).sum() / self._variance,
            "shift": (features.mean(0) - self._mean).square().sum() / self._variance,
        }
        if game.meaning is not None and self._variance_within is not None:
            within = _within(features, game.classes_of(latents))
            if within is not None:
                found["spread_within"] = within / self._variance_within
        if self._classes is not None:
            answers = self._answers(features)
            found["classes"] = _effective(answers) / self._classes
            if len(answers) <= MOST_CLASSES:
                found |= {f"classes/{number}": share for number, share in enumerate(answers / answers.sum())}
        if game.model.judges_images:
            found |= self._of_logits(game, samples, told)
        if copies:
            if self._near is None:
                self._near = self._nearest(self._test[0]).quantile(QUANTILE)
            found["copies"] = (self._nearest(samples[:COPY_SAMPLES]) <= self._near).double().mean()
        return {name: float(value) for name, value in found.items()}

    def _of_logits(self, game: Game, samples: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """What D's logits say; nothing if they are vectors."""
        sides = {"train": self._train, "held_out": self._test, "samples": (samples, labels)}
        logits = {name: self._logits(game, *side) for name, side in sides.items()}
        train, held_out = logits["train"], logits["held_out"]
        if train.ndim > 1:
            return {}
        found = {f"logits/{name}_{round(100 * share)}": values.quantile(share) for name, values in logits.items() for share in SHARES}
        order = (train[:, None] > held_out).double().mean() + (train[:, None] == held_out).double().mean() / 2
        return {**found, "order/held_out": order}

    def _drawn(self, split: str, num: int) -> tuple[Tensor, Tensor]:
        images, labels = getattr(self._data.splits, split)
        chosen = torch.randperm(len(images), generator=randomness.generator("cpu", 0, "referee", split))[:num]
        return to_unit_range(images[chosen].to(self._device)).float(), labels[chosen].to(self._device)

    def _features(self, images: Tensor) -> Tensor:
        return images.flatten(1) if self._extract is None else self._extract(images)

    def _answers(self, features: Tensor) -> Tensor:
        assert self._extract is not None
        with torch.no_grad():
            answers: Tensor = self._extract.classifier.logits(features).argmax(1)
        return answers.bincount(minlength=self._extract.takes.num_classes).double()

    @torch.no_grad()
    def _logits(self, game: Game, images: Tensor, labels: Tensor) -> Tensor:
        num = len(images) // game.tricks.images_per_logit * game.tricks.images_per_logit
        with evaluating(game.model, self._device):
            randomness.restart(0, "referee", "view")
            return game.judge(game.model.example(images[:num], labels[:num])).logits

    def _nearest(self, images: Tensor) -> Tensor:
        """Distances (N) of images (N, ...) to the nearest training image."""
        stored = self._data.splits.train.images
        return nearest(images, stored[: max(1, COPY_NUMBERS // stored[0].numel())])[0]


def _within(features: Tensor, groups: Tensor) -> Tensor | None:
    """The variance of features (N, F) around the means of their groups (N).

    None if there are fewer than two members per group on average.
    """
    present, places = groups.unique(return_inverse=True)
    if len(features) < 2 * len(present):
        return None
    sums = torch.zeros(len(present), features.shape[1], dtype=features.dtype, device=features.device).index_add_(0, places, features)
    means = sums / places.bincount()[:, None]
    return (features - means[places]).square().sum() / (len(features) - len(present))


def _effective(counts: Tensor) -> Tensor:
    """The effective number of classes, exp(entropy), of counts per class."""
    shares = counts / counts.sum()
    return torch.special.entr(shares).sum().exp()
