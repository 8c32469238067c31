"""Find the latents of given images: `python src/project.py run=<run folder> images=<folder>`."""

import hydra
from omegaconf import DictConfig

from twoplayer.commands import entry


@hydra.main(version_base="1.3", config_path="../conf", config_name="project")
def main(config: DictConfig) -> None:
    entry.call(config)


if __name__ == "__main__":
    entry.run(main)
