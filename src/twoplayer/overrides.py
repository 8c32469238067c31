"""Overrides, the words of a command such as `loss=hinge`: what they set, and which of them matter.

Overrides are kept as the user wrote them, because only they say what was chosen and what follows
from the configuration.
"""

from collections.abc import Iterable, Sequence

PLACE = ("run", "resume", "sweep", "name")
"""Settings that say where a run is and how it is called. A new run gets others."""

FREE = (
    "budget",
    "checkpoint",
    "name",
    "run",
    "sweep",
    "resume",
    "logger",
    "callbacks.progress",
    "referee.act",
    "debug",
    "data.root",
    "data.file",
    "data.source_root",
    "data.cache",
    "data.in_memory_mib",
    "threads",
)
"""Settings that a resumed run may change.

They decide how long a run trains, where it is stored and how it is shown, but not what is trained.
"""


def setting_of(override: str) -> str:
    """The dotted name that an override sets, without its signs `+` and `~`."""
    return override.lstrip("+~").partition("=")[0]


def sets(overrides: Iterable[str], *names: str) -> bool:
    """Whether one of the overrides sets one of these names."""
    return any(setting_of(word) in names for word in overrides)


def without(overrides: Iterable[str], *names: str) -> list[str]:
    """The overrides that set none of these names, in their order."""
    return [word for word in overrides if setting_of(word) not in names]


def is_free(name: str) -> bool:
    """Whether a setting is in FREE, or below one that is."""
    return any(f"{name}.".startswith(f"{free}.") for free in FREE)


def merged(*parts: Sequence[str]) -> tuple[str, ...]:
    """Overrides in one list; one that sets the same as an earlier one takes its place."""
    found: dict[str, str] = {}
    for word in (word for part in parts for word in part):
        found[setting_of(word)] = word
    return tuple(found.values())


def changed(overrides: Sequence[str], *changes: str) -> list[str]:
    """The overrides of a new run with some changes, which replace what sets the same.

    A change keeps the sign that the override had, and PLACE is left out.
    """
    signs = {setting_of(word): word[: len(word) - len(word.lstrip("+"))] for word in overrides}
    names = {setting_of(change): change for change in changes}
    return [*without(overrides, *PLACE, *names), *(signs.get(name, "") + change for name, change in names.items())]
