"""Search for good settings: `python src/search.py space=rates trials=30`."""

import hydra
from omegaconf import DictConfig

from twoplayer.commands import entry


@hydra.main(version_base="1.3", config_path="../conf", config_name="search")
def main(config: DictConfig) -> None:
    entry.call(config)


if __name__ == "__main__":
    entry.run(main)
