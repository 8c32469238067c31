"""Every recipe of conf/experiment trains at a small size, and resumes, on one rank and on two."""

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from helpers import pairs
from helpers.games import CPU, choices, fit, play_recipe, same, small_recipe, state_sha256, weights
from twoplayer.game.build import build_game
from twoplayer.paths import CONF

RECIPES = choices("experiment")
RESUMED = [name for name in RECIPES if not name.endswith("_cured")]  # a cure differs from its failure by a number
CONTROLS = ("gmmn", "vae", "dcgan", "cycle_gan")  # D stands still, there is none, and two that move both; all others resume below
BATCH = 16


def _first_of_their_parts() -> list[str]:
    """The recipes with a model, a loss, data or a trick that no recipe before has."""
    first, seen = [], set[tuple[str, str]]()
    for name in RESUMED:
        content: Any = OmegaConf.to_container(OmegaConf.load(CONF / "experiment" / f"{name}.yaml"))
        chosen = [pair for entry in content.get("defaults", ()) if isinstance(entry, dict) for pair in entry.items()]
        parts = {(group, part) for group, value in chosen for part in ([value] if isinstance(value, str) else value)}
        if not parts <= seen:
            first.append(name)
        seen |= parts
    return first


EVERYDAY = _first_of_their_parts()


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in RESUMED or name in CONTROLS])
def test_a_recipe_moves_the_players_that_it_trains(name: str, tmp_path: Path) -> None:
    config = small_recipe(name)
    game = build_game(config, CPU)
    players = {"generator": game.model.generator, "discriminator": game.model.discriminator}
    before = {player: weights(module) for player, module in players.items()}
    fit(config, tmp_path, 6, game=game)
    assert bool(game.finite)
    moved = {player for player, old in before.items() if not same(old, weights(players[player]))}
    still = "frozen_discriminator" in config.trick or not game.model.adversarial
    assert moved == set(players) - ({"discriminator"} if still else set())


@pytest.mark.process
@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in EVERYDAY else pytest.mark.slow) for name in RESUMED])
def test_every_recipe_resumes_exactly(name: str, tmp_path: Path) -> None:
    settings = [f"budget.images={7 * BATCH}", f"checkpoint.every_images={3 * BATCH}", "checkpoint.keep=3"]
    play_recipe(tmp_path / "whole", name, *settings)
    (saved,) = (tmp_path / "whole" / "checkpoints").glob(f"{3 * BATCH:08}*")
    summary = play_recipe(tmp_path / "parts", name, *settings, f"resume={saved}")
    assert (summary["resumed_from"], summary["images_seen"]) == (3 * BATCH, 7 * BATCH)
    assert state_sha256(tmp_path / "parts") == state_sha256(tmp_path / "whole")


@pytest.mark.process
@pytest.mark.parametrize("names", [pytest.param(EVERYDAY[::6], id="some"), pytest.param(RESUMED, id="all", marks=pytest.mark.slow)])
def test_every_recipe_trains_on_two_ranks(names: list[str], tmp_path: Path) -> None:
    """Two ranks resume exactly in test_ranks.py, with each loss and each trick."""
    pairs.walk([(pairs.play_recipe, (str(tmp_path / name), name, f"budget.images={3 * BATCH}", pairs.DUMP)) for name in names])
    for name in names:
        assert json.loads((tmp_path / name / "summary.json").read_text())["world_size"] == 2, name
        assert pairs.differences(pairs.dumps(tmp_path / name)) == [], name
