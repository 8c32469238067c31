"""Train a GAN: `python src/train.py`; `python src/train.py --help` lists the settings."""

import hydra
from omegaconf import DictConfig

from twoplayer.commands import entry


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
def main(config: DictConfig) -> float | None:
    return entry.job(config)


if __name__ == "__main__":
    entry.run(main)
