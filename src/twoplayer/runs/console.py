"""The lines that a run logs to the terminal and train.log at its start and its end."""

import logging
import shlex
from collections.abc import Mapping
from typing import Any

import torch
from omegaconf import DictConfig

from twoplayer.callbacks import samples
from twoplayer.callbacks.summary import device_name
from twoplayer.config.hardware import num_ranks
from twoplayer.distributed import environment
from twoplayer.game.game import Game
from twoplayer.metrics import recorded
from twoplayer.overrides import without
from twoplayer.paths import command, override, shown
from twoplayer.referee.base import Advice
from twoplayer.runs import advice
from twoplayer.runs.plan import Plan
from twoplayer.settings import tags
from twoplayer.storage import checkpoints
from twoplayer.tricks.base import Player

log = logging.getLogger(__name__)


def introduce(config: DictConfig, plan: Plan, game: Game, device: torch.device, flops: Mapping[Player, int]) -> None:
    """Log what the run trains, on which device, and what it resumes from, with warnings.

    The tricks are listed since `trick=` on the command line replaces the whole default list.
    """
    data, model, loss, *tricks = tags(config)
    sizes = {player: sum(parameter.numel() for parameter in parameters) for player, parameters in game.player_parameters.items()}
    ranks_ = num_ranks(config)
    where = f"{device_name(device)}{f' x {ranks_}' if ranks_ > 1 else ''}, {game.precision}, engine {game.engine.name}"
    log.info("model %s   loss %s   data %s   tricks %s", model, loss, data, ", ".join(tricks) or "none")
    log.info("%s", "; ".join(f"{player} {sizes[player]:,} parameters, {_counted(each)}/image" for player, each in flops.items()))
    log.info("on %s   seed %s   up to %s images", where, config.seed, f"{config.budget.images:,}")
    if game.engine.name == "captured":
        log.warning("engine=captured is new and has never been run on a real GPU; if it fails, set engine=eager")
    if plan.checkpoint is not None:
        log.info("resuming from %s images seen (%s)", f"{plan.images_seen:,}", shown(plan.checkpoint.path))
    elif config.resume == "auto":
        log.info("nothing to resume in %s: starting a new run", shown(plan.folder))
    penalties = [name for name in game.tricks.chosen if name in game.tricks.due("discriminator", 0)]
    if ranks_ > 1 and penalties and game.loss.batchwise_penalties:
        log.info(
            "%s on several ranks: gradients flow through the images of each rank only, so weights differ slightly from a run on one rank",
            ", ".join(penalties),
        )
    if game.loss.needs_bounded_slope and not any(part.bounds_slope for part in (game.model, game.loss, game.tricks)):
        log.warning(
            "loss=%s needs a D with a bounded slope, and nothing bounds it here, so training may diverge: set '%s'",
            loss,
            advice.change(config, plan.overrides, Advice(trick=game.loss.bounded_by)),
        )


def _counted(flops: int) -> str:
    """A number of operations with its unit, such as 3.1 MFLOP."""
    unit, size = next(
        (unit, size) for unit, size in (("GFLOP", 1e9), ("MFLOP", 1e6), ("kFLOP", 1e3), ("FLOP", 1)) if flops >= size or size == 1
    )
    return f"{flops / size:.3g} {unit}"


def conclude(config: DictConfig, plan: Plan, summary: dict[str, Any]) -> None:
    """Log scores, duration, speed, folders and the next commands.

    Jobs of a sweep leave out the next commands; the sweep logs its own once at its end.
    """
    for line in recorded.lines(summary):
        log.info("%s", line)
    better = _better_before(plan, summary)
    if better is not None:
        log.info("best before the end     %s", better)
    duration = f"{summary['seconds']:,.0f} s, {summary['images_per_second']:,.0f} images/s"
    log.info("images seen             %s   %s", f"{summary['images_seen']:,}", duration)
    picture = plan.folder / samples.FOLDER / samples.PROGRESS
    if picture.exists():
        log.info("progress                %s", shown(picture))
    log.info("run                     %s", shown(plan.folder))
    if not plan.in_sweep:
        log.info("next")
        for command in _next(config, plan, summary):
            log.info("  %s", command)


def _better_before(plan: Plan, summary: Mapping[str, Any]) -> str | None:
    """Where the leading score was better than at the end, and how to draw from there."""
    score = next(iter(recorded.read(summary)), None)
    best = next((saved for saved in checkpoints.saved_files(plan.folder) if saved.best), None)
    if (
        best is None
        or best.images_seen == summary["images_seen"]
        or score is None
        or score.best_validation is None
        or score.validation is None
    ):
        return None
    found = f"{score.name}_validation {recorded.digits(score.best_validation)} after {best.images_seen:,} images"
    return f"{found}, {recorded.digits(score.validation)} now; {command('sample', override('run', best.path))}"


def _next(config: DictConfig, plan: Plan, summary: dict[str, Any]) -> list[str]:
    """Commands for a finished run: draw samples, view the logs, train longer."""
    run = override("run", plan.folder)
    commands = [command("sample", run)]
    if (plan.folder / "wandb").is_dir():
        commands.append(f"wandb leet {shlex.quote(shown(plan.folder / 'wandb'))}")
    if environment.manager() is None:
        kept = without(plan.overrides, "run", "resume", "budget.images", "budget.seconds")
        spent = {"images": summary["images_seen"], "seconds": summary["seconds"]}
        larger = [f"budget.{unit}={2 * max(size, round(spent[unit]))}" for unit, size in config.budget.items() if size is not None]
        commands.append(command("train", *kept, run, "resume=auto", *larger))
    return commands
