"""Check data before training: `python src/check_data.py data.root=<folder of images>`."""

import hydra
from omegaconf import DictConfig

from twoplayer.commands import entry


@hydra.main(version_base="1.3", config_path="../conf", config_name="check_data")
def main(config: DictConfig) -> None:
    entry.call(config)


if __name__ == "__main__":
    entry.run(main)
