"""What the terminal and train.log say of a run: at its start, and at its end."""

import logging
import shlex
from typing import Any

import torch
from omegaconf import DictConfig

from twoplayer.callbacks import samples
from twoplayer.callbacks.summary import device_name
from twoplayer.config.hardware import num_ranks
from twoplayer.distributed import environment
from twoplayer.game.game import Game
from twoplayer.metrics import recorded
from twoplayer.paths import CONF, setting, shown
from twoplayer.runs.plan import Plan
from twoplayer.settings import tags

log = logging.getLogger(__name__)


def introduce(config: DictConfig, plan: Plan, game: Game, device: torch.device) -> None:
    """Say what is about to happen, the chosen tricks included, which `trick=` on the command line has replaced as a whole."""
    data, model, loss, *tricks = tags(config)
    sizes = ", ".join(
        f"{player[0].upper()} {sum(parameter.numel() for parameter in parameters):,}"
        for player, parameters in sorted(game.player_parameters.items())
    )
    ranks_ = num_ranks(config)
    where = f"{device_name(device)}{f' x {ranks_}' if ranks_ > 1 else ''}, {game.precision}, engine {game.engine.name}"
    log.info("model %s (%s parameters)   loss %s   data %s   tricks %s", model, sizes, loss, data, ", ".join(tricks) or "none")
    log.info("on %s   seed %s   up to %s images", where, config.seed, f"{config.budget.images:,}")
    if game.engine.name == "captured":
        log.warning("engine=captured is new and has never been run on a real GPU; should it fail, set engine=eager")
    if plan.checkpoint is not None:
        log.info("going on from %s images seen (%s)", f"{plan.images_seen:,}", shown(plan.checkpoint.path))
    elif config.resume == "auto":
        log.info("there is nothing to go on from in %s: beginning", shown(plan.folder))
    penalties = [name for name in game.tricks.chosen if name in game.tricks.due("discriminator", 0)]
    if ranks_ > 1 and penalties and game.loss.batchwise_penalties:
        log.info(
            "%s over several ranks: each learns through the vectors of its own images alone, so weights differ a little from one rank's",
            ", ".join(penalties),
        )
    if game.loss.needs_bounded_slope and not any(part.bounds_slope for part in (game.model, game.loss, game.tricks)):
        log.warning(
            "loss=%s without anything that bounds D's slope does not approximate a distance and may run away: add trick=[wgan_gp]", loss
        )


def conclude(config: DictConfig, plan: Plan, summary: dict[str, Any]) -> None:
    """The score beside its floor, the time, the speed; where to look; and what to do next, which a multirun says once, at its end."""
    for line in recorded.lines(summary):
        log.info("%s", line)
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


def _next(config: DictConfig, plan: Plan, summary: dict[str, Any]) -> list[str]:
    """Commands to try on a run that has ended."""
    source, run = CONF.parent / "src", setting("run", plan.folder)
    commands = [f"python {shown(source / 'sample.py')} {run}"]
    if (plan.folder / "wandb").is_dir():
        commands.append(f"wandb leet {shlex.quote(shown(plan.folder / 'wandb'))}")
    if environment.manager() is None:
        kept = [word for word in plan.overrides if word.split("=")[0] not in ("run", "resume", "budget.images", "budget.seconds")]
        spent = {"images": summary["images_seen"], "seconds": summary["seconds"]}
        larger = [f"budget.{unit}={2 * max(size, round(spent[unit]))}" for unit, size in config.budget.items() if size is not None]
        words = [*map(shlex.quote, kept), run, "resume=auto", *larger]
        commands.append(f"python {shown(source / 'train.py')} {' '.join(words)}")
    return commands
