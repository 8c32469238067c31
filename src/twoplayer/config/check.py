"""Checks of a composed configuration against the code that it configures.

The annotations of a constructor are its schema, so a new loss, trick or model needs no second list
of its settings. A class may also define `refuse(config)` for combinations that cannot work.
"""

import dataclasses
import functools
import inspect
import itertools
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pydantic
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import InterpolationResolutionError
from pydantic import ConfigDict, TypeAdapter

from twoplayer.config.schema import Experiment
from twoplayer.errors import ConfigurationError, origin, unknown
from twoplayer.hydra_private import unresolved_node
from twoplayer.models.conditioning import is_conditional
from twoplayer.overrides import setting_of
from twoplayer.paths import CONF
from twoplayer.settings import family, leaves, written

OF_DATA = frozenset({"labels", "images"})
"""What the data have to give, of what a trick can need."""

DATA_WITH = {"sources": "data=pairs", "pairs": "data=pairs data.paired=true"}

_REST = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def check(config: DictConfig, overrides: Sequence[str] = ()) -> None:
    """Check names, types, ranges and combinations of all settings.

    Raises ConfigurationError at the first setting that is unknown, missing, of the wrong type or
    range, or refused by its class. Replaces whole floats (1e6 for a count) by integers, and the
    default metric where the data have no classifier. `overrides` are those of the command, which
    may change what a trick sets, or replace a recipe's tricks.
    """
    _leave_out_replaced_tricks(config, overrides)
    if "_target_" not in config.referee:  # data may set how often it looks, where there is none
        config.referee = {}
    settings = {key: unresolved_node(config, key) for key in map(str, config) if key != "hydra"}
    hints = typing.get_type_hints(Experiment, include_extras=True)
    _check_names("", settings, hints, required=hints)
    for path in ("data", "model", "loss", "optimizer.discriminator", "optimizer.generator"):
        if "_target_" not in (OmegaConf.select(config, path) or {}):
            raise ConfigurationError(f"{path}._target_ is missing: choose one of {path.partition('.')[0]}")
    _refuse_without_discriminator(config)
    _refuse_tricks_without_place(config)
    _refuse(config, _check_value(config, "data", "data", hints.pop("data")))  # first, since the settings of models refer to it
    _settle_metric(config, overrides)
    found = [pair for key, annotation in hints.items() for pair in _check_value(config, key, key, annotation)]
    _refuse_unmet_needs(config)
    _refuse(config, found)
    _refuse_rival_metrics(config)
    _refuse_rival_tricks(config)
    _refuse_undone_tricks(config, overrides)
    _refuse_packs_without_packing(config)


def _settle_metric(config: DictConfig, overrides: Sequence[str]) -> None:
    """Replace the default metric, fd, by that of the data if they have no classifier.

    So all data have a score and a best checkpoint. Nothing is replaced if the command names a
    metric.
    """
    typed = any(re.match(r"[+~]*metric\b", override) for override in overrides)
    if not typed and list(config.metric) == ["fd"] and config.data.classifier is None:
        metric = get_object(config.data._target_).metric
        config.metric = {metric: OmegaConf.load(CONF / "metric" / f"{metric}.yaml")}


def _refuse(config: DictConfig, targets: Iterable[tuple[str, Any]]) -> None:
    """Ask each class for its refusals."""
    for _, target in targets:
        refuse = getattr(target, "refuse", None)
        if refuse is not None:
            refuse(config)


def _leave_out_replaced_tricks(config: DictConfig, overrides: Sequence[str]) -> None:
    """Remove what a recipe sets of its tricks, if the command has chosen others."""
    for name in map(str, list(config.trick)):
        node = config.trick[name]
        by_hand = any(f"{setting_of(word)}.".startswith(f"trick.{name}.") for word in overrides)
        if node and "_target_" not in node and not by_hand:
            with open_dict(config):
                del config.trick[name]


@functools.cache
def _edits(trick: str) -> dict[str, Any]:
    """What the yaml of a trick sets outside `trick.`: settings and choices, by dotted name."""
    path = CONF / "trick" / f"{trick}.yaml"
    content: Any = OmegaConf.to_container(OmegaConf.load(path)) if path.exists() else {}
    if "trick" not in content:
        return {}
    chosen = (entry.items() for entry in content.get("defaults", ()) if isinstance(entry, dict))
    choices = {str(key).split("@")[-1].removeprefix("override /"): value for items in chosen for key, value in items}
    return choices | {key: value for key, value in leaves(content) if not key.startswith(("trick.", "defaults"))}


def _refuse_without_discriminator(config: DictConfig) -> None:
    """Refuse a loss, or a trick that sets something of D, in a family without a discriminator."""
    model, loss = _found(config.model._target_, "model"), _found(config.loss._target_, "loss")
    reason = getattr(model, "lacks", {}).get("a discriminator")
    if reason is None:
        return
    if getattr(loss, "needs_discriminator", False):
        remedy = "reconstruction" if model.restores else "own_costs"
        raise ConfigurationError(f"loss={family(config.loss)}: it needs a discriminator, but {reason}; set loss={remedy} 'trick=[ema]'")
    for trick in map(str, config.trick):
        if any(key.startswith("model.discriminator.") for key in _edits(trick)):
            raise ConfigurationError(f"trick={trick}: it needs a discriminator, but {reason}; leave it out")


def _refuse_tricks_without_place(config: DictConfig) -> None:
    """Refuse a trick whose yaml sets something that the chosen model does not have."""
    for trick in map(str, config.trick):
        for key in _edits(trick):
            place, _, name = key.rpartition(".")
            target = OmegaConf.select(config, f"{place}._target_") if place.startswith("model") else None
            if target is not None and name in OmegaConf.select(config, place) and name not in _settings(target, place):
                raise ConfigurationError(
                    f"trick={trick}: model={family(config.model)} has no {key.removeprefix('model.')}, which this trick sets; "
                    f"leave the trick out, choose another model, or, if this one works without that setting, add ~{key}"
                )


def _settings(target: str, path: str) -> Iterable[str]:
    """The constructor parameters of a `_target_`."""
    return _schema(_found(target, path))[0]


def _found(target: str, path: str) -> Any:
    try:
        return get_object(target)
    except Exception as error:
        raise ConfigurationError(f"{path}._target_={target}: there is no such class") from error


def _schema(target: Any) -> tuple[dict[str, inspect.Parameter], dict[str, Any]]:
    """The parameters of a class or function and their types, by name.

    A constructor with `**settings` passes them on, so the parameters of the next constructor in the
    order of inheritance are settings too.
    """
    constructors = [vars(each)["__init__"] for each in target.__mro__ if "__init__" in vars(each)] if inspect.isclass(target) else [target]
    parameters: dict[str, inspect.Parameter] = {}
    hints: dict[str, Any] = {}
    for constructor in constructors:
        own = inspect.signature(constructor).parameters
        kinds = {parameter.kind for parameter in own.values()}
        found = {name: parameter for name, parameter in own.items() if parameter.kind not in _REST and name != "self"}
        hints = typing.get_type_hints(constructor, include_extras=True) | hints
        parameters = {name: parameter for name, parameter in found.items() if name not in parameters} | parameters
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            break
    return parameters, hints


def _refuse_unmet_needs(config: DictConfig) -> None:
    """Refuse what needs something that the model or the data do not give."""
    from twoplayer.models.base import Model

    given, model, loss = get_object(config.data._target_).gives(config), get_object(config.model._target_), get_object(config.loss._target_)
    needs = {f"trick={name}": _needs(str(name), get_object(node._target_)) for name, node in config.trick.items() if node}
    if is_conditional(config, "generator"):
        needs["model.generator.conditioning"] = frozenset({"labels"})
    for missing in sorted(model.needs - given):
        raise ConfigurationError(
            f"model={family(config.model)}: it needs {missing}, and data={family(config.data)} has none with these settings; "
            f"set {'data.paired=true' if 'sources' in given else DATA_WITH[missing]}"
        )
    for who, wanted in needs.items():
        for missing in sorted(wanted & model.lacks.keys()):
            raise ConfigurationError(f"{who}: it needs {missing}, but {model.lacks[missing]}; leave it out")
        for missing in sorted(wanted & OF_DATA - given):
            raise ConfigurationError(
                f"{who}: it needs {missing}, and data={family(config.data)} has none with these settings; leave it out, or choose other data"
            )
    if loss.needs_own_costs and model.generator_costs is Model.generator_costs:
        raise ConfigurationError(
            f"loss={family(config.loss)}: model={family(config.model)} has no costs of its own; choose another loss, or such a model: experiment=pixel_cnn"
        )
    if loss.restores and not model.restores:
        raise ConfigurationError(
            f"loss={family(config.loss)}: it compares each fake with one real image, but those of model={family(config.model)} belong to none; "
            "choose another loss, or a model that restores images, such as experiment=autoencoder"
        )


def _needs(name: str, trick: Any) -> frozenset[str]:
    """What a trick needs of model and data: what it says, and whatever it acts on."""
    from twoplayer.tricks.base import OF_DISCRIMINATOR, Trick

    acts = any(getattr(trick, place) is not getattr(Trick, place) for place in OF_DISCRIMINATOR)
    sets = any("optimizer.discriminator" in key or key.startswith("model.discriminator") for key in _edits(name))
    needs = set(trick.needs) | ({"a discriminator"} if acts or sets else set())
    return frozenset(needs | ({"a prior"} if trick.latents is not Trick.latents else set()))


def _refuse_rival_metrics(config: DictConfig) -> None:
    """Refuse two metrics that have a number of the same name."""
    owners: dict[str, str] = {}
    for metric, node in config.metric.items():
        for name in get_object(node._target_).numbers:
            if name in owners:
                raise ConfigurationError(f"metric=[{owners[name]},{metric}]: both have a number called {name}; leave one of them out")
            owners[name] = str(metric)


def _refuse_rival_tricks(config: DictConfig) -> None:
    """Refuse two tricks that set the same thing: the later one would silently win."""
    from twoplayer.tricks.base import Trick

    judging = [str(name) for name, node in config.trick.items() if node and get_object(node._target_).judge_both is not Trick.judge_both]
    if len(judging) > 1:
        raise ConfigurationError(f"trick=[{','.join(judging)}]: each decides in which batches D judges both sides; leave one of them out")
    for name, node in config.trick.items():
        for rival, reason in get_object(node._target_).excludes.items() if node else ():
            if rival in config.trick:
                raise ConfigurationError(f"trick=[{name},{rival}]: {reason}; leave one of them out")
    for one, other in itertools.combinations(map(str, config.trick), 2):
        for key, value in _edits(one).items():
            for rival, its_value in _edits(other).items():
                if f"{rival}.".startswith(f"{key}.") or f"{key}.".startswith(f"{rival}."):
                    raise ConfigurationError(
                        f"trick=[{one},{other}]: {one} sets {key}={written(value)} and {other} sets {rival}={written(its_value)}; leave one of them out"
                    )


def _refuse_undone_tricks(config: DictConfig, overrides: Sequence[str]) -> None:
    """Refuse a trick whose numbers are overridden by the recipe, which is composed later."""
    by_hand = set(map(setting_of, overrides))
    for name in map(str, config.trick):
        for key, value in _edits(name).items():
            actual = OmegaConf.select(config, key)
            is_number = not OmegaConf.is_config(actual) and "${" not in str(value)
            if is_number and actual != value and key not in by_hand:
                raise ConfigurationError(
                    f"trick={name} sets {key}={value}, but the recipe sets {key}={actual}; set {key} on the command line"
                )


def _refuse_packs_without_packing(config: DictConfig) -> None:
    """Refuse a D that is built for packs of another size than the game makes."""
    packs, size = OmegaConf.select(config, "model.discriminator.packs"), OmegaConf.select(config, "trick.packing.size") or 1
    if packs not in (None, size):
        remedy = "set trick.packing.size" if "packing" in config.trick else "choose trick=packing for packs"
        raise ConfigurationError(f"model.discriminator.packs={packs}: D is shown packs of {size}; leave this out, and {remedy}")


def check_call(node: DictConfig) -> None:
    """Raise ConfigurationError if a node does not fit the signature of its `_target_`."""
    _check_target(node, "")


def check_parts(config: DictConfig) -> None:
    """Check the networks, loss, tricks and optimizers of a saved configuration.

    Raises ConfigurationError if one does not fit its constructor.
    """
    for part in ("model", "loss", "optimizer", "trick"):
        _check_value(config, part, part, dict[str, Any])


def _check_value(parent: DictConfig, key: str, path: str, annotation: Any) -> list[tuple[str, Any]]:
    """Check a setting and all below it; return the paths and classes of its `_target_`s."""
    if OmegaConf.is_missing(parent, key):
        raise ConfigurationError(f"{path} is missing: set it with {path}=<value>")
    try:
        value = parent[key]
    except InterpolationResolutionError as error:  # of a resolver that reads a file of data
        raise origin(error) from None
    if isinstance(value, DictConfig):
        if "_target_" in value:
            return _check_target(value, path)
        if dataclasses.is_dataclass(annotation):
            hints = typing.get_type_hints(annotation, include_extras=True)
            _check_names(path, value, hints, required=hints)
            return [found for name, hint in hints.items() for found in _check_value(value, name, f"{path}.{name}", hint)]
        if typing.get_origin(annotation) is dict:
            each = typing.get_args(annotation)[1]
            hint = dict[str, Any] if each is Any else each  # a node of nodes, such as `trick`
            return [found for name in map(str, value) for found in _check_value(value, name, f"{path}.{name}", hint)]
    if dataclasses.is_dataclass(annotation):
        names = ", ".join(f"{path}.{field.name}" for field in dataclasses.fields(annotation))
        raise ConfigurationError(f"{path}={written(value)}: this is a group of settings; set one of {names}")
    plain = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    parent[key] = _validated(plain, annotation, path)
    return []


def _check_target(node: DictConfig, path: str) -> list[tuple[str, Any]]:
    target = _found(node._target_, path)
    _check_kind(path, target)
    parameters, hints = _schema(target)
    given = [name for name in map(str, node) if name not in ("_target_", "_partial_")]
    required = [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty and not (node.get("_partial_") and parameter.kind is not parameter.KEYWORD_ONLY)
    ]
    _check_names(path, given, parameters, required)
    return [(path, target), *(found for name in given for found in _check_value(node, name, f"{path}.{name}".lstrip("."), hints[name]))]


def _check_names(path: str, given: Iterable[Any], known: Mapping[str, Any], required: Iterable[str]) -> None:
    prefix = f"{path}." if path else ""
    given = [str(name) for name in given]
    for name in given:
        if name not in known:
            raise ConfigurationError(unknown(prefix + name, [prefix + other for other in known]))
    for name in required:
        if name not in given:
            raise ConfigurationError(f"{prefix}{name} is missing: it must be set")


def _validated(value: Any, annotation: Any, path: str) -> Any:
    adapter = TypeAdapter(annotation, config=ConfigDict(strict=True, allow_inf_nan=False))
    candidates = [value, int(value)] if isinstance(value, float) and value.is_integer() else [value]
    errors = []
    for candidate in candidates:
        try:
            return adapter.validate_python(candidate)
        except pydantic.ValidationError as error:
            errors.append(error)
    detail = errors[-1].errors()[0]
    where = "".join(f"[{index}]" for index in detail["loc"] if isinstance(index, int))
    accepted = " or ".join(dict.fromkeys(_accepted(error["msg"]) for error in errors[-1].errors()))
    found = written(detail["input"] if where else value)
    raise ConfigurationError(f"{path}{where}={found}: must be {accepted}")


_KINDS = {
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid boolean": "true or false",
    "a valid string": "text",
    "a valid list": "a list",
    "String should have at least 1 character": "text that is not empty",
    "None": "null",
}


def _accepted(message: str) -> str:
    accepted = message.removeprefix("Input should be ")
    return _KINDS.get(accepted, accepted)


def _check_kind(path: str, target: Any) -> None:
    """Refuse a `_target_` that is not a subclass of the base class of its group."""
    from pytorch_lightning import Callback

    from twoplayer.data.base import Data
    from twoplayer.loggers.base import RunLogger
    from twoplayer.losses.base import Loss
    from twoplayer.metrics.base import Metric
    from twoplayer.models.base import Model
    from twoplayer.referee.base import Rule
    from twoplayer.tricks.base import Trick

    kinds: dict[tuple[str, int], type] = {
        ("data", 1): Data,
        ("model", 1): Model,
        ("loss", 1): Loss,
        ("trick", 2): Trick,
        ("metric", 2): Metric,
        ("callbacks", 2): Callback,
        ("referee", 1): Callback,
        ("referee", 3): Rule,
        ("logger", 2): RunLogger,
    }
    parts = path.split(".")
    kind = kinds.get((parts[0], len(parts)))
    if kind is not None and not (inspect.isclass(target) and issubclass(target, kind)):
        raise ConfigurationError(
            f"{path}._target_={target.__module__}.{target.__qualname__}: must be a subclass of {kind.__module__}.{kind.__name__}"
        )
