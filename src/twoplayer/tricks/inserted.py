"""Modules put into a player whose family knows nothing of them."""

from collections.abc import Callable

from torch import nn

LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def after_hidden_layers(player: nn.Module, make: Callable[[], nn.Module]) -> None:
    """Put a new module behind every layer that has a weight matrix, but for the last."""
    found = [place.rpartition(".") for place, child in player.named_modules() if isinstance(child, LAYERS)]  # in the order of the layers
    for above, _, name in found[:-1]:
        parent = player.get_submodule(above)
        parent.add_module(name, nn.Sequential(parent.get_submodule(name), make()))


def before_output(discriminator: nn.Module, make: Callable[[int], nn.Module], num: int) -> None:
    """Give D's last layer `num` more features, which `make(number of features)` adds to those it gets, (N, F) to (N, F + num)."""
    output = discriminator.output
    layers = list(output) if isinstance(output, nn.Sequential) else [output]
    last = layers[-1]
    assert isinstance(last, nn.Linear)
    wider = nn.Linear(last.in_features + num, last.out_features, bias=last.bias is not None)
    discriminator.output = nn.Sequential(*layers[:-1], make(last.in_features), wider)
