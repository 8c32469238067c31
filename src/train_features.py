"""Train a feature classifier of labelled images: `python src/train_features.py data=mnist`."""

import hydra
from omegaconf import DictConfig

from twoplayer.commands import entry


@hydra.main(version_base="1.3", config_path="../conf", config_name="train_features")
def main(config: DictConfig) -> None:
    entry.call(config)


if __name__ == "__main__":
    entry.run(main)
