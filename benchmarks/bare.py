"""The default game as a bare PyTorch loop.

It has the same networks, loss, R1, optimizers, EMA, precision and data, and nothing else.
"""

import copy

import torch
from torch import Tensor

from twoplayer.losses.non_saturating import NonSaturating
from twoplayer.models.dcgan import Discriminator, Generator


class BareLoop:
    """Trains on `images`, uint8 (N, C, H, W)."""

    def __init__(self, generator: Generator, discriminator: Discriminator, images: Tensor, batch_size: int) -> None:
        self.generator = generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.discriminator = discriminator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average, self.loss = copy.deepcopy(self.generator).requires_grad_(False), NonSaturating()
        self.images, self.batch_size, self.seen, self.updates = images, batch_size, 0, 0
        self.generator_adam = torch.optim.Adam(self.generator.parameters(), 4e-3, (0.0, 0.99), fused=True)
        self.discriminator_adam = torch.optim.Adam(self.discriminator.parameters(), 2e-3, (0.0, 0.99), fused=True)
        self.order = torch.randperm(len(images))

    def iteration(self) -> None:
        """One update of each player."""
        if self.seen % len(self.images) + self.batch_size > len(self.images):
            self.order, self.seen = torch.randperm(len(self.images)), 0
        chosen = self.order[self.seen : self.seen + self.batch_size]
        real = self.images[chosen].float().div_(127.5).sub_(1)
        self.seen += self.batch_size

        self.discriminator_adam.zero_grad()
        with torch.no_grad():
            fake = self.generator(self._latents(), None)
        steep = self.updates % 8 == 0
        logits = self.discriminator(real.requires_grad_(steep), None)[0]
        cost = self.loss.real(logits).mean() + self.loss.fake(self.discriminator(fake, None)[0]).mean()
        if steep:
            (slope,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
            cost = cost + 8 * 0.1 * slope.square().sum((1, 2, 3)).mean()
        cost.backward(inputs=list(self.discriminator.parameters()))
        self.discriminator_adam.step()
        self.updates += 1

        self.generator_adam.zero_grad()
        fake = self.generator(self._latents(), None)
        self.loss.fool(self.discriminator(fake, None)[0]).mean().backward(inputs=list(self.generator.parameters()))
        self.generator_adam.step()
        averages = [*self.average.parameters(), *(buffer for buffer in self.average.buffers() if buffer.is_floating_point())]
        present = [*self.generator.parameters(), *(buffer for buffer in self.generator.buffers() if buffer.is_floating_point())]
        torch._foreach_lerp_(averages, [tensor.detach() for tensor in present], 0.01)

    def _latents(self) -> Tensor:
        return torch.randn(self.batch_size, self.generator.latent_size)
