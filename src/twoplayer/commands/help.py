"""The help pages of the scripts besides train.py: examples, and each setting with its comment."""

import re
from collections.abc import Sequence

from omegaconf import OmegaConf

from twoplayer.paths import CONF
from twoplayer.settings import choices


def help_page(script: str) -> str:
    """The page of `python src/<script>.py --help`, from conf/hydra/help and the script's yaml."""
    page = OmegaConf.load(CONF / "hydra" / "help" / f"{script}.yaml")
    template = str(OmegaConf.to_container(page)["template"])  # type: ignore[call-overload, index]
    lines = (CONF / f"{script}.yaml").read_text().splitlines()
    begin = next(index for index, line in enumerate(lines) if line.startswith("_target_"))
    end = next(index for index, line in enumerate(lines) if line.startswith("hydra:"))
    groups = [found[1] for line in lines[:begin] if (found := re.match(r"  - (?!_self_|override )(\w+):", line))]
    settings = [_plain(line) for line in lines[begin + 1 : end] if line]
    parts = [template.replace("${hydra.help.header}", page.header).rstrip(), "Settings\n" + _indented(settings)]
    if groups:
        parts.append("Choices\n" + _indented([f"{group}: {', '.join(choices(group))}" for group in groups]))
    return "\n\n".join(parts) + "\n"


def _indented(lines: Sequence[str]) -> str:
    return "\n".join(f"  {line}" for line in lines)


def _plain(line: str) -> str:
    """A line of yaml without what only OmegaConf understands; comments keep their place."""
    line = re.sub(r": \?\?\?( {,7})", lambda found: ": (required)" + " " * (len(found[1]) - 7), line)
    return re.sub(r"\$\{hydra:runtime\.choices\.(\w+)\}", r"<\1>", line)
