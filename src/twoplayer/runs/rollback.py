"""`referee.act=rollback`: after a finding, train on from a checkpoint with one setting changed.

Each part is a run of its own, in a folder beside the first one. The summary of a run that was
rolled back names the run that follows it, so the chain resumes where it was interrupted.
"""

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from twoplayer.config.compose import compose_run
from twoplayer.errors import ConfigurationError, NumericsError
from twoplayer.overrides import changed, setting_of
from twoplayer.paths import override, shown
from twoplayer.runs.plan import Plan, plan_run
from twoplayer.runs.train import train
from twoplayer.storage import checkpoints, lock
from twoplayer.storage.run_folder import read_summary, write_summary

log = logging.getLogger(__name__)

MOST = 3
"""How often a run is rolled back at most."""


def train_with_rollback(config: DictConfig, plan: Plan) -> dict[str, Any]:
    """Train a run as `train` does, and roll it back while the referee finds a failure in it.

    Returns the summary of the last run. Raises what `train` raises, but a NumericsError only if
    the run cannot be rolled back further.
    """
    if not config.referee or config.referee.act != "rollback":
        return train(config, plan)
    told = read_summary(plan.folder).get("rollback")
    if told is not None:  # a later part of a chain is resumed by its own name
        plan = plan._replace(facts={"rollback": told})
    for number in range(told["number"] + 1 if told else 1, MOST + 2):
        failure = None
        following = read_summary(plan.folder).get("rolled_back") if plan.checkpoint else None
        if following is not None:  # by a process that was interrupted later
            lock.release(plan.folder)
            config, plan = _begin(following, plan)
            continue
        try:
            summary = train(config, plan)
        except NumericsError as error:
            summary, failure = read_summary(plan.folder), error
        finding = _finding(summary, failure)
        next_part = _roll_back(config, plan, summary, finding, number) if finding is not None else None
        if next_part is None:
            if failure is not None:
                raise failure
            return summary
        config, plan = next_part
    raise AssertionError("the last part is not rolled back")


def _finding(summary: dict[str, Any], failure: NumericsError | None) -> dict[str, Any] | None:
    """The finding that ended a run, the first of several at once; None if it ended otherwise."""
    referee = summary.get("referee", {})
    findings = referee.get("findings", []) if failure is not None or referee.get("stopped") else []
    return next((finding for finding in findings if finding["first_images"] == findings[-1]["first_images"]), None)


def _roll_back(
    config: DictConfig, plan: Plan, summary: dict[str, Any], finding: dict[str, Any], number: int
) -> tuple[DictConfig, Plan] | None:
    """Plan the run that follows a finding, and record it in the summary; None if none can.

    The first advice that applies is taken. Where the weights of the checkpoint do not fit it, as
    with a trick that changes a network, the game starts anew.
    """
    if number > MOST:
        log.warning("referee: rolled back %d times already, so this run ends here", MOST)
        return None
    seconds = None if config.budget.seconds is None else config.budget.seconds - summary["seconds"]
    if seconds is not None and seconds <= 0:
        log.warning("referee: the budget is spent, so this run is not rolled back")
        return None
    told = plan.facts.get("rollback", {})
    total, earlier = told.get("total_images", config.budget.images), told.get("changes", [])
    new = [change for change in finding["changes"] if setting_of(change) not in map(setting_of, earlier)]
    first = plan.folder.name.rpartition("_rollback")[0] if number > 1 else plan.folder.name
    folder = plan.folder.with_name(f"{first}_rollback{number}")
    for change in new or finding["changes"]:
        for checkpoint, images in _places(config, plan.folder, finding["since_images"], total):
            start = override("init_from", Path(checkpoint)) if checkpoint else "init_from=null"
            more = [change, start, f"budget.images={images}", *([] if seconds is None else [f"budget.seconds={seconds}"])]
            following = {
                "number": number,
                "folder": str(folder),
                "from": str(plan.folder),
                "checkpoint": checkpoint,
                "rule": finding["rule"],
                "changes": [*earlier, change],
                "total_images": total,
                "overrides": changed(plan.overrides, *more),
            }
            try:
                part = _begin(following, plan)
            except ConfigurationError as error:
                log.info("referee: %s cannot go on from %s: %s", change, checkpoint or "new weights", error)
                continue
            place = shown(Path(checkpoint)) if checkpoint else "new weights"
            log.warning("referee: going on from %s with %s, in %s (%d of at most %d)", place, change, shown(folder), number, MOST)
            write_summary(plan.folder, {**read_summary(plan.folder), "rolled_back": following})
            return part
    log.warning("referee: nothing that helps against %s applies here, so this run ends", finding["rule"].replace("_", " "))
    return None


def _places(config: DictConfig, run: Path, before_images: int, total: int) -> list[tuple[str | None, int]]:
    """Checkpoints to start from, each with the images that remain; None is a start anew.

    The first is the best checkpoint if it is from before the failure, else the newest that is, else
    that which the run itself began with.
    """
    before = [saved for saved in checkpoints.saved_files(run) if saved.images_seen < before_images]
    chosen = next((saved for saved in before if saved.best), before[0] if before else None)
    path, seen = (config.init_from, 0) if chosen is None else (str(chosen.path), chosen.images_seen)
    first = (path, config.budget.images - seen)
    return [first] if path is None else [first, (None, total)]


def _begin(following: dict[str, Any], before: Plan) -> tuple[DictConfig, Plan]:
    """Plan the run that follows, which resumes if it had begun."""
    folder = Path(following["folder"])
    config = compose_run(*following["overrides"], override("run", folder), "resume=auto")
    plan = plan_run(config, folder, overrides=following["overrides"], in_sweep=before.in_sweep)
    told = {name: value for name, value in following.items() if name != "overrides"}
    return config, plan._replace(facts={"rollback": told})
