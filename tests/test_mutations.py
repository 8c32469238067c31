"""Faults, one at a time, in a copy of the source: the test for each has to fail."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from helpers.games import PROJECT, Record


class Fault(NamedTuple):
    """Edits of one file, and the test that has to see them."""

    file: str
    edits: dict[str, str]
    test: str


RESUMES = "test_resuming.py::test_every_loss_and_trick_resumes_exactly"
FAULTS = {
    "randomness not set per iteration": Fault(
        "game/game.py",
        {'randomness.restart(self.seed, "iteration", clock.iteration, ranks.rank())': "pass"},
        f"{RESUMES}[trick/instance_noise]",
    ),
    "EMA not saved": Fault(
        "tricks/ema.py",
        {
            "self.generator = copy.deepcopy(generator).requires_grad_(False)": 'object.__setattr__(self, "generator", copy.deepcopy(generator))'
        },
        f"{RESUMES}[trick/ema]",
    ),
    "optimizer not saved": Fault("game/game.py", {"return list(self.player_optimizers.values())": "return []"}, f"{RESUMES}[loss/hinge]"),
    "rename without temporary file": Fault(
        "storage/checkpoints.py",
        {
            'with temporary.open("wb") as file:': 'with target.open("wb") as file:',
            "if _digest(temporary) != digest:": "if _digest(target) != digest:",
            "os.replace(temporary, target)": "pass",
        },
        "test_durability.py::test_a_kill_during_a_save_leaves_nothing_unreadable[20]",
    ),
    "NaN guard removed": Fault(
        "game/game.py",
        {"gradient.masked_fill_(spoiled, 0.0)": "pass"},
        "test_game.py::test_a_gradient_that_is_not_finite_never_reaches_the_weights",
    ),
    "all-reduce removed": Fault(
        "game/game.py",
        {"ranks.average_in_place([result.cost, *gradients, *sharing.statistics(self.model)])": "pass"},
        "test_ranks.py::test_ranks_share_all_shared_state_and_draw_their_own_noise",
    ),
    "data position lost": Fault(
        "data/base.py", {"self.trainer.world_size, game.clock.iteration)": "self.trainer.world_size, 0)"}, f"{RESUMES}[loss/minimax]"
    ),
    "lock file ignored": Fault(
        "storage/lock.py",
        {"        lock.acquire(poll_interval=0.01)": "        pass"},
        "test_interruptions.py::test_a_folder_takes_one_run_at_a_time",
    ),
}


def run(copy: Path, test: str) -> subprocess.CompletedProcess[str]:
    """One test, on a copy of the tree."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider", f"tests/{test}"]
    environment = os.environ | {"PYTHONPATH": f"{copy / 'src'}", "TWOPLAYER_DATA": str(PROJECT / "data"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source."""
    copy = tmp_path_factory.mktemp("tree") / "copy"
    for name in ("src", "conf", "tests", "docs"):
        shutil.copytree(PROJECT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy2(PROJECT / name, copy / name)
    return copy


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_seen(name: str, tree: Path, record: Record) -> None:
    fault = FAULTS[name]
    path = tree / "src" / "twoplayer" / fault.file
    original = path.read_text()
    mutated = original
    for old, new in fault.edits.items():
        assert mutated.count(old) == 1, old
        mutated = mutated.replace(old, new)
    before = run(tree, fault.test)
    assert before.returncode == 0, before.stdout
    path.write_text(mutated)
    try:
        finished = run(tree, fault.test)
    finally:
        path.write_text(original)
    seen = finished.returncode == 1 and "failed" in finished.stdout
    record("mutation", name, 1, int(seen))
    assert seen, finished.stdout


def test_every_fault_names_a_test_and_a_place_that_exist() -> None:
    for fault in FAULTS.values():
        source = (PROJECT / "src" / "twoplayer" / fault.file).read_text()
        assert all(source.count(old) == 1 for old in fault.edits), fault
        file, _, test = fault.test.partition("::")
        assert f"def {test.partition('[')[0]}(" in (PROJECT / "tests" / file).read_text()
