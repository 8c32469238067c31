"""Answer a question by a fair comparison: `python src/study.py study=losses`."""

import hydra
from omegaconf import DictConfig

from twoplayer.commands import entry


@hydra.main(version_base="1.3", config_path="../conf", config_name="study")
def main(config: DictConfig) -> None:
    entry.call(config)


if __name__ == "__main__":
    entry.run(main)
