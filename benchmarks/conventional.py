"""The usual tutorial script for a DCGAN on MNIST, as a class that can be stopped and timed.

Generator, 32 x 32: linear 100 -> 128 x 8 x 8; batch norm; upsample x 2; 3 x 3 convolution 128 ->
128, batch norm, LeakyReLU 0.2; upsample x 2; 3 x 3 convolution 128 -> 64, batch norm, LeakyReLU
0.2; 3 x 3 convolution 64 -> 1; tanh.
Discriminator: four blocks of a 3 x 3 convolution with stride 2 (1 -> 16 -> 32 -> 64 -> 128),
LeakyReLU 0.2, dropout 0.25 of whole channels and, from the second block on, batch norm; linear
128 x 2 x 2 -> 1; sigmoid.
Binary cross-entropy, Adam 2e-4 with betas 0.5 and 0.999, batch 64, weights from N(0, 0.02),
float32, images one by one through resize, to-tensor and normalize in a DataLoader. The generator
is updated first in each iteration; the discriminator is trained on the same fakes.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import MNIST

SIZE, LATENTS, BATCH = 32, 100, 64


class Generator(nn.Module):
    """Latents (N, 100) to images (N, 1, 32, 32)."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(LATENTS, 128 * (SIZE // 4) ** 2)
        self.layers = nn.Sequential(
            nn.BatchNorm2d(128),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(128, 128, 3, 1, 1),
            nn.BatchNorm2d(128),
            nn.LeakyReLU(0.2),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(128, 64, 3, 1, 1),
            nn.BatchNorm2d(64),
            nn.LeakyReLU(0.2),
            nn.Conv2d(64, 1, 3, 1, 1),
            nn.Tanh(),
        )

    def forward(self, latents: Tensor) -> Tensor:
        """Images (N, 1, 32, 32) in [-1, 1]."""
        return self.layers(self.linear(latents).view(-1, 128, SIZE // 4, SIZE // 4))


class Discriminator(nn.Module):
    """Images (N, 1, 32, 32) to probabilities (N, 1) of being real."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise((1, 16, 32, 64, 128)):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.LeakyReLU(0.2), nn.Dropout2d(0.25)]
            layers += [nn.BatchNorm2d(after)] if before > 1 else []
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * (SIZE // 16) ** 2, 1), nn.Sigmoid())

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class Script:
    """The training script. `load` restores a state, but starts a new epoch."""

    def __init__(self, seed: int, data_root: str) -> None:
        torch.manual_seed(seed)
        self.seed, self.seen = seed, 0
        self.generator, self.discriminator = Generator(), Discriminator()
        for module in (*self.generator.modules(), *self.discriminator.modules()):
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.normal_(module.weight, 0, 0.02)
        adam = [torch.optim.Adam(player.parameters(), 2e-4, (0.5, 0.999)) for player in (self.generator, self.discriminator)]
        self.generator_adam, self.discriminator_adam = adam
        steps = [transforms.Resize(SIZE), transforms.ToTensor(), transforms.Normalize([0.5], [0.5])]
        self.loader = DataLoader(MNIST(data_root, transform=transforms.Compose(steps)), BATCH, shuffle=True)

    def train(self) -> Iterator[None]:
        """Train without end; yields after each iteration."""
        bce = nn.BCELoss()
        while True:
            for images, _ in self.loader:
                real, fake = torch.ones(len(images), 1), torch.zeros(len(images), 1)
                self.generator_adam.zero_grad()
                generated = self.generator(torch.randn(len(images), LATENTS))
                bce(self.discriminator(generated), real).backward()
                self.generator_adam.step()
                self.discriminator_adam.zero_grad()
                cost = bce(self.discriminator(images), real) + bce(self.discriminator(generated.detach()), fake)
                (cost / 2).backward()
                self.discriminator_adam.step()
                self.seen += len(images)
                yield

    @torch.no_grad()
    def sample(self, latents: Tensor) -> Tensor:
        """Images (N, 1, 32, 32) in [-1, 1], in eval mode."""
        self.generator.eval()
        images = self.generator(latents)
        self.generator.train()
        return images

    def state(self) -> dict[str, Any]:
        """The state that `load` restores."""
        return {"parts": [part.state_dict() for part in self._parts()], "seen": self.seen}

    def load(self, state: dict[str, Any]) -> None:
        """Restore a state. The random numbers are seeded anew."""
        for part, own in zip(self._parts(), state["parts"], strict=True):
            part.load_state_dict(own)
        self.seen = state["seen"]
        torch.manual_seed(self.seed + self.seen)

    def _parts(self) -> list[Any]:
        return [self.generator, self.discriminator, self.generator_adam, self.discriminator_adam]
