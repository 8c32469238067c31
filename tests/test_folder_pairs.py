"""Pairs of one's own: in two folders, or side by side in each file of one."""

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from helpers.games import CPU, composed, state_sha256
from twoplayer.commands.check_data import check_data
from twoplayer.commands.sample import write_samples
from twoplayer.data.decoding import Fault, Picture, Target, decode
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


def test_classes_are_those_of_targets_alone(tmp_path: Path) -> None:
    targets = write(tmp_path / "targets", NAMES, 0)
    flat = tmp_path / "sources"
    flat.mkdir()
    for name in NAMES[:6]:
        (targets / f"{name}.png").rename(flat / f"{name.replace('/', '')}.png")
    data = opened((targets, flat), paired=False, num_classes=2, classes=[1])
    assert sum(len(split.images) for split in data.splits) == 12
    assert len({int(image.max()) for image in data.source_images("train")}) > 1


def test_names_may_be_written_in_two_forms(tmp_path: Path) -> None:
    """As macOS and Linux write an accent."""
    folders = write(tmp_path / "targets", NAMES, 0), write(tmp_path / "sources", NAMES, 100)
    for folder, name in zip(folders, ("\u00e9", "e\u0301"), strict=True):
        (folder / f"{NAMES[0]}.png").rename(folder / f"{name}.png")
    assert opened(folders).matching.lonely == []


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


@pytest.fixture
def side_by_side(tmp_path: Path) -> Path:
    """Files whose left halves are 100 gray levels lighter than their right ones."""
    root = tmp_path / "both"
    for name in NAMES:
        path = root / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        right = np.full((16, 20), 5 * NAMES.index(name), dtype=np.uint8)
        Image.fromarray(np.concatenate([right + 100, right], 1)).save(path)
    return root


def test_both_may_be_in_one_file(side_by_side: Path) -> None:
    data = opened((side_by_side, side_by_side), source_root=None, source_half="left")
    for name in ("train", "validation", "test"):
        targets, sources = getattr(data.splits, name).images.int(), data.source_images(name).int()
        assert torch.equal(targets + 100, sources)
        assert (targets == targets[:, :, :1, :1]).all(), "nothing of the other half"
    other = opened((side_by_side, side_by_side), source_root=None, source_half="right")
    assert torch.equal(other.splits.train.images.int() - 100, other.source_images("train").int())
    assert other.sha256 != data.sha256
    apart = opened((side_by_side, side_by_side), source_root=None, source_half="left", paired=False)
    targets, _, sources, _ = apart.batches(0, CPU).batch(0)
    assert not torch.allclose(sources - targets, torch.full_like(targets, 100 / 127.5))


def test_a_half_is_that_of_the_upright_image(tmp_path: Path) -> None:
    lying = Image.fromarray(np.concatenate([np.zeros((9, 9), np.uint8), np.full((9, 9), 200, np.uint8)]))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise, so that its lower half is on the left
    lying.save(tmp_path / "turned.png", exif=exif)
    found = decode(tmp_path / "turned.png", Target(1, 9, 255, "left"))
    assert isinstance(found, Picture)
    assert (found.pixels == 200).all()
    assert (found.width, found.height) == (9, 9)
    Image.new("L", (7, 4)).save(tmp_path / "odd.png")
    assert decode(tmp_path / "odd.png", Target(1, 4, 255, "left")) == Fault("is 7 x 4, an odd width, which has no two halves")


def checked(data: FolderPairs, tmp_path: Path) -> str:
    check_data(data=data, num=12, columns=3, output=str(tmp_path / "report"))
    return (tmp_path / "report" / "findings.txt").read_text()


def test_check_data_looks_at_both_folders(folders: tuple[Path, Path], tmp_path: Path) -> None:
    findings = checked(opened(folders), tmp_path)
    assert re.search(r"source: .*sources: 24 image files\n(.*\n)*target: .*targets: 24 image files", findings)
    assert "faults" not in findings
    with Image.open(tmp_path / "report" / "contact_sheet.png") as image:
        sheet = np.asarray(image.convert("L")).astype(int)
    edge = sheet.shape[1] // 3
    rows = [sheet[round((row + 0.5) * sheet.shape[0] / 4), edge // 2] for row in range(4)]
    assert [rows[0] - rows[1], rows[2] - rows[3]] == [100, 100], "a row of sources above each row of their targets"
    (folders[1] / "a" / "00.bmp").unlink()
    (folders[0] / "a" / "01.png").unlink()
    (folders[0] / "b" / "03.png").write_bytes(b"nothing")
    write(folders[1], NAMES[5:6], 0, ".png")
    with pytest.raises(DataError, match="3 faults"):
        checked(opened(folders), tmp_path)
    findings = (tmp_path / "report" / "findings.txt").read_text()
    for line in (
        "target: a/00.png has no source of the same name",
        "source: a/01.bmp has no target of the same name",
        "target: b/03.png is not an image of a known format",
        "are both the source of one target",
    ):
        assert line in findings
    assert "has no source" not in checked(opened((folders[1], folders[1]), paired=False, source_root=str(folders[1])), tmp_path)
    with pytest.raises(ConfigurationError, match=r"output=.*: this is in data\.source_root"):
        check_data(data=opened(folders), num=1, columns=1, output=str(folders[1] / "here"))


def test_check_data_names_a_file_of_two_halves_once(side_by_side: Path, tmp_path: Path) -> None:
    (side_by_side / "a" / "00.png").write_bytes(b"nothing")
    Image.new("RGB", (17, 9)).save(side_by_side / "a" / "01.png")
    with pytest.raises(DataError, match="2 faults"):
        checked(opened((side_by_side, side_by_side), source_root=None, source_half="left"), tmp_path)
    findings = (tmp_path / "report" / "findings.txt").read_text()
    assert "  a/01.png is 17 x 9, an odd width, which has no two halves" in findings
    assert "source: sizes: 20 x 16 (22)" in findings


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
        (
            "broken",
            {},
            r"sources/a/00\.bmp .*; delete or replace this file; python .*check_data.py data=folder_pairs data\.root=.*targets data\.source_root=.*sources lists all",
        ),
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
        ([], r"data\.source_root=null: the sources are missing; name their folder, or set data\.source_half=left or right"),
        (["data.source_root=sources", "data.source_half=left"], r"data\.source_half=left and data\.source_root=sources: .* choose one"),
        (["data.source_half=top"], r"data\.source_half"),
        (["data.source_root=sources", "data.paired=false", "model=pix2pix"], r"model=pix2pix: it needs pairs.*; set data\.paired=true"),
    ],
)
def test_settings_that_do_not_fit_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        composed("data=folder_pairs", "data.root=targets", *SIZES, *overrides)


def test_pix2pix_learns_from_folders_resumes_and_translates_others(folders: tuple[Path, Path], side_by_side: Path, tmp_path: Path) -> None:
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
    settings = {"num": 4, "seed": 0, "columns": 2, "single_files": False, "safetensors": True, "interpolate": False, "walk": False}
    more = {"plane": False, "latents": None, "truncation": None, "labels": None, "run": str(tmp_path / "whole")}

    def translated(name: str, source: Path, half: str | None) -> torch.Tensor:
        write_samples(output=str(tmp_path / name), source=str(source), source_half=half, **settings, **more)  # type: ignore[arg-type]
        files = sorted(path.name for path in (tmp_path / name).iterdir())
        assert files == ["seed0_24_translated.png", "seed0_24_translated.safetensors"]
        return load_file(tmp_path / name / files[1])["images"]

    of_folder = translated("out", folders[1], None)
    assert torch.equal(translated("left", side_by_side, "left"), of_folder)
    assert not torch.equal(translated("right", side_by_side, "right"), of_folder)
