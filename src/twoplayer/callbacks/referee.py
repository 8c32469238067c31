"""Watches the game, and says when it goes wrong and what to try."""

import logging
import time
from collections.abc import Callable
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt
from omegaconf import DictConfig
from pytorch_lightning import Callback, Trainer

from twoplayer.callbacks.means import Means
from twoplayer.distributed import environment, ranks
from twoplayer.errors import ConfigurationError, NumericsError
from twoplayer.game.game import Game
from twoplayer.loggers.base import RunLogger, log_scalars, summarize
from twoplayer.referee.base import Advice, Rule
from twoplayer.referee.evidence import Evidence, Witness

log = logging.getLogger(__name__)

NOT_FINITE = "not_finite"
NOT_FINITE_ADVICE = (
    Advice(setting="optimizer.generator.lr", times=0.25),
    Advice(setting="optimizer.discriminator.lr", times=0.25),
    Advice(trick="r1"),
    Advice(setting="precision", value="fp32"),
)


class Referee(Callback):
    """Looks at the game every `every_images`, and reports each rule that is broken, once.

    A look costs `num_samples` samples and as many training and test images that D judges. Each look
    is logged as `referee/<name>`. summary.json has the entry `referee`: `findings`, each with its
    rule, the images seen when it began to fail, at the first and at the last look that broke it,
    what it says and what to try; whether it stopped the run; the number of looks; and the seconds
    that this process spent on them.

    With `act=stop` the run ends at the first finding; with `act=rollback` too, and `runs.rollback`
    trains on from an earlier checkpoint.
    """

    def __init__(
        self,
        *,
        act: Literal["warn", "stop", "rollback"],
        every_images: Annotated[int, Gt(0)],
        num_samples: Annotated[int, Ge(2)],
        copies_every: Annotated[int, Ge(1)],
        rules: dict[str, Rule],
    ) -> None:
        self.act, self.every_images, self.num_samples, self.copies_every, self.rules = act, every_images, num_samples, copies_every, rules
        self.findings: dict[str, dict[str, Any]] = {}
        self.seconds = 0.0
        self._history: list[Evidence] = []
        self._means = Means()
        self._witness: Witness | None = None
        self._stopped = False
        self._advise: Callable[[Advice], tuple[str, str] | None] = lambda advice: None

    @staticmethod
    def refuse(config: DictConfig) -> None:
        """Refuse to roll back ranks that another program has started, since they end together."""
        if config.referee.act == "rollback" and environment.by_others():
            raise ConfigurationError(
                f"referee.act=rollback: ranks that {environment.manager()} has started cannot be started again from here; "
                "set referee.act=stop, or let trainer.devices start the ranks"
            )

    def advise(self, advise: Callable[[Advice], tuple[str, str] | None]) -> None:
        """Set what turns advice into an override and the command of a run with it.

        None if it does not apply to this run.
        """
        self._advise = advise

    def longest(self) -> int:
        """The number of looks in succession that the slowest rule needs."""
        return max((rule.looks for rule in self.rules.values()), default=1)

    def on_train_batch_end(self, trainer: Trainer, game: Game, outputs: Any, batch: Any, batch_index: int) -> None:  # type: ignore[override]
        self._means.add(game.scalars)
        if game.clock.crossed(self.every_images):
            began = time.perf_counter()
            self._look(trainer, game)
            self.seconds += time.perf_counter() - began

    def on_train_end(self, trainer: Trainer, game: Game) -> None:  # type: ignore[override]
        self._summarize(trainer)

    def on_exception(self, trainer: Trainer, game: Game, exception: BaseException) -> None:  # type: ignore[override]
        """A gradient that is not finite ends the run; it is a finding, too."""
        if isinstance(exception, NumericsError):
            now = game.clock.images_seen
            since = int(self._history[-1]["images_seen"]) if self._history else 0
            self._found(trainer, NOT_FINITE, now, since, "a gradient or a weight is no longer finite", NOT_FINITE_ADVICE)
        self._summarize(trainer)

    def state_dict(self) -> dict[str, Any]:
        """All looks and findings, and the means since the last look. All ranks must call this."""
        return {
            "history": [dict(look) for look in self._history],
            "findings": {name: dict(finding) for name, finding in self.findings.items()},
            "means": self._means.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._history, self.findings = state_dict["history"], state_dict["findings"]
        self._means.load_state_dict(state_dict["means"])

    def _look(self, trainer: Trainer, game: Game) -> None:
        if self._witness is None:
            self._witness = Witness(trainer.datamodule, game.device, self.num_samples)  # type: ignore[attr-defined]
        means = self._means.read(game, {})
        self._means.clear()
        seen = self._witness.look(game, self.num_samples, copies=(len(self._history) + 1) % self.copies_every == 0)
        # Ranks on different hardware may differ in the last digits, but must make the same choices.
        values = torch.tensor(list(seen.values()), dtype=torch.float64, device=game.device)
        ranks.broadcast_in_place([values])
        seen = dict(zip(seen, values.tolist(), strict=True))
        self._history.append({"images_seen": float(game.clock.images_seen), **means, **seen})
        log_scalars(trainer, {f"referee/{name}": value for name, value in seen.items()}, game.clock.images_seen)
        for name, rule in self.rules.items():
            if first := rule.broken(self._history):
                self._found(trainer, name, game.clock.images_seen, int(first["images_seen"]), rule.says(self._last(rule)), rule.advice)
                if self.act != "warn":
                    self._stopped = trainer.should_stop = True

    def _last(self, rule: Rule) -> Evidence:
        """The newest look that the rule can judge."""
        return next(look for look in reversed(self._history) if all(name in look for name in rule.reads))

    def _found(self, trainer: Trainer, rule: str, images_seen: int, since: int, says: str, advice: tuple[Advice, ...]) -> None:
        """Record a finding, and report it if it is new."""
        if rule in self.findings:
            self.findings[rule]["last_images"] = images_seen
            return
        advised = [pair for pair in map(self._advise, advice) if pair]
        commands = [command for _, command in advised]
        moments = {"since_images": since, "first_images": images_seen, "last_images": images_seen}
        self.findings[rule] = {**moments, "says": says, "try": commands, "changes": [change for change, _ in advised]}
        text = f"{says}. Try: {commands[0]}" if commands else says
        if trainer.is_global_zero:
            log.warning("referee, at %s images: %s", f"{images_seen:,}", text)
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                logger.alert(rule.replace("_", " "), f"At {images_seen:,} images: {text}")
        self._summarize(trainer)

    def _summarize(self, trainer: Trainer) -> None:
        findings = [{"rule": rule, **finding} for rule, finding in self.findings.items()]
        state = {"findings": findings, "stopped": self._stopped, "looks": len(self._history), "seconds": self.seconds}
        summarize(trainer, {"referee": state})
