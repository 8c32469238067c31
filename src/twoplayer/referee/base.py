"""The base class of the referee's rules."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, NamedTuple

from annotated_types import Ge

from twoplayer.referee.evidence import Evidence


class Advice(NamedTuple):
    """Something to try: a trick to add, or a setting to set to a value or to multiply."""

    trick: str | None = None
    setting: str | None = None
    value: str | None = None
    times: float | None = None


class Rule:
    """One way in which a game goes wrong.

    A subclass says what it `reads`, when a look `fails`, and what it `says`. The rule is broken if
    the last `looks` looks fail, not counting those before `grace_images` real images. `advice`
    lists what to try, the best first.
    """

    reads: ClassVar[tuple[str, ...]]
    """The names of the evidence without which it cannot judge."""
    advice: ClassVar[tuple[Advice, ...]]

    def __init__(self, *, looks: Annotated[int, Ge(1)], grace_images: Annotated[int, Ge(0)]) -> None:
        self.looks, self.grace_images = looks, grace_images

    def fails(self, look: Evidence, before: Sequence[Evidence]) -> bool:
        """Whether a look shows the failure; `before` are the earlier looks, the oldest first."""
        raise NotImplementedError

    def says(self, look: Evidence) -> str:
        """What the rule sees in words, from the last look that fails."""
        raise NotImplementedError

    def broken(self, history: Sequence[Evidence]) -> Evidence | None:
        """The first of the last `looks` looks that this rule can judge, if they all fail.

        None at a look that it cannot judge.
        """
        able = [index for index, look in enumerate(history) if all(name in look for name in self.reads)]
        last = [index for index in able if history[index]["images_seen"] >= self.grace_images][-self.looks :]
        judged_now = last[-1:] == [len(history) - 1]
        broken = judged_now and len(last) == self.looks and all(self.fails(history[index], history[:index]) for index in last)
        return history[last[0]] if broken else None
