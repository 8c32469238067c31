"""What the documents say is so: commands compose, named files exist."""

import re
import shlex

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from helpers.games import PROJECT, choices, composed
from twoplayer import CONF

README = (PROJECT / "README.md").read_text()
HELP = (CONF / "hydra" / "help" / "twoplayer.yaml").read_text()
COMMANDS = sorted(
    {line.split("   ")[0].strip() for text in (README, HELP) for line in text.splitlines() if re.match(r"\s*python src/train\.py", line)}
)


@pytest.mark.process
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_documents_is_valid(command: str) -> None:
    overrides = [word for word in shlex.split(command, comments=True)[2:] if not word.startswith("-") and "<" not in word]
    for jobs in BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(overrides), max_batch_size=None):
        for job in jobs:
            composed(*job)


@pytest.mark.process
@pytest.mark.parametrize("name", choices("search"))
def test_every_job_of_a_search_is_valid(name: str) -> None:
    parameters = OmegaConf.load(CONF / "search" / f"{name}.yaml").hydra.sweeper.params
    asked = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in parameters.items()])
    (jobs,) = BasicSweeper.split_arguments(asked, max_batch_size=None)
    assert len(jobs) > 1
    for job in jobs:
        composed(f"+search={name}", *job)


def test_all_tricks_are_in_the_search_of_tricks() -> None:
    text = (CONF / "search" / "tricks.yaml").read_text()
    assert {*re.findall(r"\[(\w+)\]", text)} == set(choices("trick"))


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 6


def test_the_source_tree_is_the_one_described() -> None:
    tree = README.split("## The source")[1].split("```")[1]
    named = set(re.findall(r"(\w+\.py)\b", tree))
    top = {path.name for folder in (PROJECT / "src", PROJECT / "src" / "twoplayer") for path in folder.glob("*.py")} - {"__init__.py"}
    assert named - {"base.py"} == top
    folders = {path.parent.name for path in (PROJECT / "src" / "twoplayer").glob("*/__init__.py")}
    assert folders <= set(re.findall(r"(\w+)/", tree))


@pytest.mark.parametrize("group", ["model", "loss", "trick", "metric", "logger", "trainer"])
def test_all_choices_are_listed(group: str) -> None:
    row = next(line for line in README.splitlines() if line.startswith(f"| `{group}`"))
    assert {path.stem for path in (CONF / group).glob("*.yaml")} <= set(re.findall(r"`(\w+)`", row))


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (PROJECT / target).exists(), target
