"""Inserts modules into the players of any model."""

from collections.abc import Callable

from torch import nn

from twoplayer.errors import ConfigurationError
from twoplayer.models.conditioning import Embedding

LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def after_hidden_layers(player: nn.Module, make: Callable[[], nn.Module], trick: str) -> None:
    """Add a new module after every layer with a weight matrix, except in `player.output`.

    Embeddings of classes are no layers of the player, and neither are its parts that `beside`
    names, such as an encoder: they are left alone.

    Raises ConfigurationError, which names `trick`, if the player has no `output`.
    """
    last = set(_output(player, trick).modules())
    found = [
        place.rpartition(".")
        for place, child in player.named_modules()
        if isinstance(child, LAYERS)
        and not isinstance(child, Embedding)
        and child not in last
        and place.partition(".")[0] not in getattr(player, "beside", ())
    ]
    for above, _, name in found:
        parent = player.get_submodule(above)
        parent.add_module(name, nn.Sequential(parent.get_submodule(name), make()))


def before_output(discriminator: nn.Module, make: Callable[[int], nn.Module], num: int, trick: str) -> None:
    """Add `num` features to the input of D's last layer.

    `make(F)` returns a module that maps features (N, F) to (N, F + num).

    Raises ConfigurationError, which names `trick`, if D's `output` does not end in a linear layer.
    """
    output = _output(discriminator, trick)
    layers = list(output) if isinstance(output, nn.Sequential) else [output]
    last = layers[-1]
    if not isinstance(last, nn.Linear):
        raise ConfigurationError(
            f"trick={trick}: it adds features to a linear layer, but the output of {_name(discriminator)} is {type(last).__name__}; "
            "leave the trick out, or choose another model"
        )
    wider = nn.Linear(last.in_features + num, last.out_features, bias=last.bias is not None)
    discriminator.output = nn.Sequential(*layers[:-1], make(last.in_features), wider)


def _output(player: nn.Module, trick: str) -> nn.Module:
    output = getattr(player, "output", None)
    if not isinstance(output, nn.Module):
        raise ConfigurationError(
            f"trick={trick}: {_name(player)} has no module `output`, its last layer, which this trick needs; "
            "leave the trick out, or choose another model"
        )
    return output


def _name(player: nn.Module) -> str:
    return f"model={type(player).__module__.rpartition('.')[2]}'s {type(player).__name__}"
