"""The unit tier starts no process."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

WAYS: dict[str, Callable[[], object]] = {
    "subprocess": lambda: subprocess.run([sys.executable, "-c", ""], check=True),
    "fork": lambda: multiprocessing.get_context("fork").Process(target=print).start(),
    "forkserver": lambda: multiprocessing.get_context("forkserver").Process(target=print).start(),
    "os.system": lambda: os.system("true"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_process_fails_a_test_of_the_unit_tier(way: str) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"mark it with @pytest\.mark\.process"):
        WAYS[way]()


def test_a_test_without_a_mark_is_of_the_unit_tier(request: pytest.FixtureRequest) -> None:
    tiers = [name for name in ("unit", "process", "slow", "gpu") if request.node.get_closest_marker(name)]
    assert tiers == ["unit"]
