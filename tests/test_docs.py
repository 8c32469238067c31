"""What the documents say is so: commands compose, links lead somewhere, lists are complete."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import get_object
from omegaconf import OmegaConf

from helpers.games import PROJECT, choices, composed
from twoplayer.config.check import _schema
from twoplayer.hydra_private import jobs_of
from twoplayer.paths import CONF
from twoplayer.settings import compose_config

PAGES = [*sorted(PROJECT.glob("*.md")), *sorted((PROJECT / "docs").glob("*.md"))]
HELP = sorted((CONF / "hydra" / "help").glob("*.yaml"))
README = (PROJECT / "README.md").read_text()
GENERATED = "RELIABILITY.md"


def commands(path: Path) -> list[str]:
    """The calls of our scripts in code and in tables, without what precedes the script.

    Comments are removed, and continued lines joined.
    """
    text = path.read_text()
    code = text if path.suffix == ".yaml" else "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    lines = re.sub(r"\s*\\\n\s*", " ", code).splitlines() + re.findall(r"^\|.*?`(python src/[^`]*)` \|", text, re.MULTILINE)
    calls = [
        re.search(
            r"(?:^|\s)src/(?:train|train_features|check_data|sample|compare|evaluate|export|plot|project|report|search|study)\.py\b.*", line
        )
        for line in lines
        if not line.startswith("#")
    ]
    return [re.split(r"\s{3,}(?=\S+ )|\s#|&&", call[0].strip())[0].strip() for call in calls if call]


COMMANDS = sorted({command for path in (*PAGES, *HELP) for command in commands(path)})


def settings(command: str) -> tuple[str, list[str]]:
    """The script of a command, and its settings but for those that a reader fills in."""
    command = re.sub(r"data\.(\w*root)=<[^>]*>", r"data.\1=photos/\1", command)  # which has no default
    script, *words = shlex.split(re.sub(r"\S*<[^>]*>\S*|--cfg \w+", "", command))
    return Path(script).stem, [word for word in words if not word.startswith("-")]


@pytest.mark.process
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_documents_is_valid(command: str) -> None:
    script, overrides = settings(command)
    overrides = [
        word for word in overrides if not word.startswith(("hydra/launcher=", "hydra.launcher."))
    ]  # of a plugin that is not installed here
    jobs = {
        tuple(word for word in job if not word.startswith("seed=")): job
        for job in jobs_of(OverridesParser.create().parse_overrides(overrides))
    }
    for job in jobs.values():  # of those that differ by seed alone, the last
        if script == "train":
            composed(*job)
        else:
            compose_config(script, *job)


def test_the_commands_are_found() -> None:
    assert {settings(command)[0] for command in COMMANDS} == {
        "train",
        "train_features",
        "check_data",
        "sample",
        "compare",
        "evaluate",
        "export",
        "plot",
        "project",
        "report",
        "search",
        "study",
    }
    for name in (
        "README.md",
        "docs/results.md",
        "docs/resume.md",
        "docs/cluster.md",
        "docs/default_recipe.md",
        "conf/hydra/help/twoplayer.yaml",
    ):
        assert commands(PROJECT / name), name


TIPS = re.findall(r"^\| (\d+) \|.*\| (.*) \|$", (PROJECT / "docs" / "ganhacks.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize(("number", "cell"), TIPS)
def test_the_settings_of_a_tip_are_valid(number: str, cell: str) -> None:
    for setting in re.findall(r"`([\w.]+=[^`\s]+)`", cell):
        composed(setting)


def test_there_are_seventeen_tips() -> None:
    assert [int(number) for number, _ in TIPS] == [*range(1, 18)]


EXAMPLES = dict(
    re.findall(r"^`([\w/.]+)`:\n\n```\w+\n(.*?)^```", (PROJECT / "docs" / "extending.md").read_text(), re.DOTALL | re.MULTILINE)
)


@pytest.mark.parametrize("path", [path for path in EXAMPLES if path.endswith(".py")])
def test_an_example_runs_and_its_yaml_has_the_settings_of_its_constructors(path: str) -> None:
    kind, name = Path(path).parts[-2], Path(path).stem
    group = {"losses": "loss", "data": "data"}.get(kind, kind.removesuffix("s"))
    defined: dict[str, Any] = {"__name__": f"twoplayer.{kind}.{name}"}
    exec(compile(EXAMPLES[path], f"<{path}>", "exec"), defined)
    nodes = [yaml.safe_load(EXAMPLES[f"conf/{group}/{name}.yaml"])]
    for node in nodes:
        module, _, target = node.pop("_target_").rpartition(".")
        assert module == defined["__name__"]
        assert set(node) == {*_schema(defined[target])[0]}
        nodes += [value for value in node.values() if isinstance(value, dict)]


@pytest.mark.process
@pytest.mark.parametrize("name", choices("search"))
def test_every_job_of_a_search_is_valid(name: str) -> None:
    parameters = OmegaConf.load(CONF / "search" / f"{name}.yaml").hydra.sweeper.params
    jobs = jobs_of(OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in parameters.items()]))
    assert len(jobs) > 1
    for job in jobs[:: len(jobs) // 2 or 1]:  # each choice by itself is tried in test_configuration.py
        composed(f"+search={name}", *job)


def test_all_tricks_are_in_the_search_of_tricks() -> None:
    parameters = OmegaConf.load(CONF / "search" / "tricks.yaml").hydra.sweeper.params
    assert {*re.findall(r"\[(\w+)\]", parameters.trick)} == set(choices("trick"))


def test_the_source_tree_is_the_one_described() -> None:
    tree = (PROJECT / "docs" / "architecture.md").read_text().split("```")[1]
    named = set(re.findall(r"(\w+\.py)\b", tree))
    top = {path.name for folder in (PROJECT / "src", PROJECT / "src" / "twoplayer") for path in folder.glob("*.py")} - {"__init__.py"}
    assert named - {"base.py"} == top
    folders = {path.parent.name for path in (PROJECT / "src" / "twoplayer").glob("*/__init__.py")}
    assert folders <= set(re.findall(r"(\w+)/", tree))


@pytest.mark.parametrize("group", ["model", "loss", "trick", "data", "metric", "logger", "trainer", "experiment"])
def test_all_choices_are_listed(group: str) -> None:
    lines = (PROJECT / "docs" / "choices.md").read_text().splitlines()
    rows = " ".join(line for line in lines if line.startswith(f"| `{group}`"))
    assert {path.stem for path in (CONF / group).glob("*.yaml")} <= set(re.findall(r"`(\w+)`", rows))


def test_all_documents_are_listed() -> None:
    assert {path.relative_to(PROJECT).as_posix() for path in PAGES} - {"README.md"} <= set(re.findall(r"\]\(([\w/.]+)\)", README))


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 140


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text()
    for link in {*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r'src="([^"]+)"', text)}:
        target, _, anchor = link.partition("#")
        if "://" in target or target.startswith("../../actions/"):  # a page of GitHub's
            continue
        there = path.parent / target if target else path
        assert there.exists(), link
        assert not anchor or anchor in anchors(there), link


@pytest.mark.parametrize("path", [path for path in PAGES if path.name != GENERATED], ids=lambda path: path.name)
def test_lines_of_prose_are_short(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    long = [line for line in text.splitlines() if len(line) > 100 and not line.startswith("|") and "](" not in line]
    assert not long


def test_the_referee_s_suggestions_are_those_of_its_rules() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\|.*\| (.*) \|$", (PROJECT / "docs" / "failures.md").read_text(), re.MULTILINE)
    told: dict[str, str] = {}
    for rule, cell in rows:
        told.setdefault(rule, [*told.values()][-1] if cell == "the same" else cell)
    for rule, node in OmegaConf.load(CONF / "referee" / "default.yaml").rules.items():
        named = [
            advice.trick or (advice.setting if advice.value is None else f"{advice.setting}={advice.value}")
            for advice in get_object(node._target_).advice
        ]
        if rule == "exploding_gradient":
            named = named[2:]  # its learning rates are both in one phrase
        assert re.findall(r"`(.*?)`", told[str(rule)]) == named, rule
