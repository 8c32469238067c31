"""Pairs of one's own: a folder of sources, and one of what is to be made of them."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from helpers.games import CPU, composed, state_sha256
from twoplayer.commands.sample import write_samples
from twoplayer.data.folder_pairs import FolderPairs
from twoplayer.errors import ConfigurationError, DataError
from twoplayer.paths import CONF
from twoplayer.runs.plan import plan_run
from twoplayer.runs.train import train

NAMES = [f"{place}/{number:02}" for place in ("a", "b") for number in range(12)]


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))


def write(root: Path, names: list[str], shift: int, suffix: str = ".png") -> Path:
    """An image for each name: its number among NAMES and `shift` are its gray level."""
    for name in names:
        path = root / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((16, 16), 5 * NAMES.index(name) + shift, dtype=np.uint8)).save(path)
    return root


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Targets, and sources that are a little lighter and of another format."""
    return write(tmp_path / "targets", NAMES, 0), write(tmp_path / "sources", NAMES[::-1], 100, ".bmp")


def opened(folders: tuple[Path, Path], **changes: Any) -> FolderPairs:
    settings = yaml.safe_load((CONF / "data" / "folder_pairs.yaml").read_text())
    del settings["_target_"]
    return FolderPairs(
        **settings
        | {"root": str(folders[0]), "source_root": str(folders[1]), "image_size": 16, "channels": 1, "batch_size": 4, "in_memory_mib": 1}
        | changes
    )


def test_a_source_is_found_by_its_name_in_every_split(folders: tuple[Path, Path]) -> None:
    data = opened(folders)
    levels = []
    for name in ("train", "validation", "test"):
        targets, sources = getattr(data.splits, name).images.int(), data.source_images(name).int()
        assert torch.equal(targets + 100, sources)
        levels += targets[:, 0, 0, 0].tolist()
    assert sorted(levels) == [5 * number for number in range(24)]
    targets, labels, sources, _ = data.batches(0, CPU).batch(3)
    assert torch.allclose(sources - targets, torch.full_like(targets, 100 / 127.5))
    assert labels.tolist() == [0] * 4
    fewer = opened(folders, num_images=5)
    assert torch.equal(fewer.splits.train.images.int() + 100, fewer.source_images("train").int())


def test_unmatched_collections_may_be_of_any_sizes(tmp_path: Path) -> None:
    data = opened((write(tmp_path / "targets", NAMES[:10], 0), write(tmp_path / "sources", NAMES, 100)), paired=False)
    assert data._sources is None
    assert len(data.splits.train.images) < len(data.source_folder.splits.train.images)
    seen = {int(level) for step in range(40) for level in ((data.batches(0, CPU).batch(step)[2] + 1) * 127.5).round()[:, 0, 0, 0]}
    assert data._sources is not None
    assert seen == set(data._sources.train.images[:, 0, 0, 0].tolist()), "every source of the training split, no other"
    for name in ("validation", "test"):
        assert len(data.source_images(name)) == len(getattr(data.splits, name).images)
    ranks = [data.batches(0, CPU, rank, 2).batch(7)[2] for rank in range(2)]
    assert torch.equal(torch.cat(ranks), data.batches(0, CPU).batch(7)[2])


def test_what_identifies_the_data_depends_on_sources_and_pairing(folders: tuple[Path, Path]) -> None:
    before = opened(folders).sha256
    assert opened(folders).sha256 == before
    assert opened(folders, paired=False).sha256 != before
    write(folders[1], NAMES[:1], 200, ".bmp")
    assert opened(folders).sha256 != before


@pytest.mark.parametrize(
    ("spoil", "changes", "message"),
    [
        ("missing", {}, r"data\.source_root=.*: 1 of 24 targets have no source of the same name, such as a/00\.png; add them, or set"),
        ("twice", {}, r"data\.source_root=.*: a/00\.\w+ and a/00\.\w+ are both the source of one target; remove one"),
        ("broken", {}, r"sources/a/00\.bmp .*; delete or replace this file; python .* data\.root=.*sources"),
        ("none", {}, r"data\.source_root=.*: this folder does not exist"),
        ("few", {"paired": False}, r"data\.source_root=.*: 3 images are the least"),
        ("nothing", {"in_memory_mib": 0}, r"data\.in_memory_mib=0: pairs are held in memory; set data\.in_memory_mib=1 or more"),
    ],
)
def test_folders_that_do_not_fit_are_told(spoil: str, changes: dict[str, Any], message: str, folders: tuple[Path, Path]) -> None:
    first = folders[1] / "a" / "00.bmp"
    if spoil in ("missing", "broken"):
        first.unlink()
    if spoil == "broken":
        first.write_bytes(b"nothing")
    if spoil == "twice":
        write(folders[1], NAMES[:1], 0, ".png")
    if spoil == "none":
        folders = folders[0], folders[1] / "elsewhere"
    if spoil == "few":
        folders = folders[0], write(folders[0].with_name("few"), NAMES[:2], 0)
    with pytest.raises((DataError, ConfigurationError), match=message):
        _ = opened(folders, **changes).splits


def test_sources_without_a_target_are_left_out(folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture) -> None:
    (folders[0] / "a" / "00.png").unlink()
    with caplog.at_level(logging.WARNING):
        data = opened(folders)
        assert sum(len(split.images) for split in data.splits) == 23
    assert "left out: 1 sources without a target of the same name" in caplog.text


SIZES = ["data.image_size=16", "data.channels=1", "data.batch_size=4"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.source_root=targets"], r"data\.source_root=targets: these are the targets, too; name the folder of the sources"),
        (
            ["data.source_root=sources", "data.num_labels=10", "data.num_classes=2"],
            r"data\.num_labels=10: pairs have no images without labels",
        ),
        (["data.source_root=sources", "data.cache=sources/here"], r"data\.cache=.*: this is in data\.source_root, into which nothing"),
        (["data.source_root=sources", "data.paired=false", "model=pix2pix"], r"model=pix2pix: it needs pairs.*; set data\.paired=true"),
    ],
)
def test_settings_that_do_not_fit_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        composed("data=folder_pairs", "data.root=targets", *SIZES, *overrides)


def test_pix2pix_learns_from_folders_resumes_and_translates_others(folders: tuple[Path, Path], tmp_path: Path) -> None:
    words = [
        "data=folder_pairs",
        f"data.root={folders[0]}",
        f"data.source_root={folders[1]}",
        *SIZES,
        "model=pix2pix",
        "model.generator.width=2",
        "model.discriminator.width=2",
        "metric=[]",
        "trainer.accelerator=cpu",
        "threads=1",
        "precision=fp32",
        "logger=none",
        "callbacks.samples.num=4",
        "referee=none",
    ]
    for name, budgets in {"whole": [24], "parts": [12, 24]}.items():
        for images in budgets:
            config = composed(*words, f"budget.images={images}", "resume=auto", f"run={tmp_path / name}")
            train(config, plan_run(config, tmp_path / name))
    assert state_sha256(tmp_path / "whole") == state_sha256(tmp_path / "parts")
    assert (tmp_path / "whole" / "samples" / "real.png").exists()
    settings = {"num": 4, "seed": 0, "columns": 2, "single_files": False, "safetensors": False, "interpolate": False, "walk": False}
    more = {"plane": False, "latents": None, "truncation": None, "labels": None}
    write_samples(run=str(tmp_path / "whole"), output=str(tmp_path / "out"), source=str(folders[1]), **settings, **more)  # type: ignore[arg-type]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["seed0_24_translated.png"]
