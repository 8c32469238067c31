"""`src/evaluate.py`: runs, files of samples, folders of images; tables, pictures, bad input."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from PIL import Image
from safetensors.torch import save_file

from helpers.commands import run
from helpers.games import composed
from twoplayer.data.base import Data
from twoplayer.data.samples import read_samples
from twoplayer.errors import ConfigurationError, DataError, TwoplayerError


@pytest.fixture(scope="module")
def mnist(data_root: str) -> Data:
    data: Data = instantiate(composed(f"data.root='{data_root}'").data)
    return data


def test_samples_are_read_from_every_kind_of_file(mnist: Data, tmp_path: Path) -> None:
    images = mnist.splits.test.images[:6]
    expected = images.float() / 127.5 - 1
    save_file({"images": images}, tmp_path / "a.safetensors")
    save_file({"samples": expected}, tmp_path / "b.safetensors")
    np.savez(tmp_path / "c.npz", x=images[:, 0].numpy())
    np.savez(tmp_path / "d.npz", images=images.movedim(1, -1).numpy())
    for name in ("a.safetensors", "b.safetensors", "c.npz", "d.npz"):
        assert torch.equal(read_samples(tmp_path / name, (1, 28, 28)), expected), name
    folder = tmp_path / "folder"
    folder.mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image[0].numpy()).convert("RGB").save(folder / f"{index}.png")
    found = read_samples(folder, (1, 28, 28))
    assert found.shape == expected.shape
    assert {image.numpy().tobytes() for image in found} == {image.numpy().tobytes() for image in expected}
    save_file({"images": torch.zeros(4, 1, 56, 56, dtype=torch.uint8)}, tmp_path / "large.safetensors")
    assert read_samples(tmp_path / "large.safetensors", (1, 28, 28)).shape == (4, 1, 28, 28)


FLOATS = torch.linspace(-1, 1, 4 * 784).view(4, 1, 28, 28)
BROKEN: dict[str, tuple[dict[str, torch.Tensor], str]] = {
    "not finite": ({"images": torch.where(FLOATS > 0.99, torch.nan, FLOATS)}, r"sample 3 holds a number that is not finite"),
    "infinite": ({"images": torch.where(FLOATS < -0.99, torch.inf, FLOATS)}, r"sample 0 holds a number that is not finite"),
    "range of 255": ({"images": FLOATS * 127}, r"floats are in \[-127, 127\], and have to be in \[-1, 1\]"),
    "range of 1": ({"images": (FLOATS + 1) / 2}, r"no float is below 0, so they are probably in \[0, 1\]"),
    "one sample": ({"images": FLOATS[:1]}, r"holds 1 sample"),
    "no sample": ({"images": FLOATS[:0]}, r"holds 0 sample|is empty|no example"),
    "three channels": ({"images": FLOATS.repeat(1, 3, 1, 1)}, r"samples are \[3, 28, 28\], and the data \[1, 28, 28\]"),
    "vectors": ({"images": FLOATS.flatten(1)}, r"samples are \["),
    "two arrays": ({"x": FLOATS, "y": FLOATS + 0}, r"has the arrays x, y; one of them has to be called images"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_bad_samples_are_refused_in_one_line(name: str, mnist: Data, tmp_path: Path) -> None:
    arrays, message = BROKEN[name]
    save_file(arrays, tmp_path / "x.safetensors")
    with pytest.raises(DataError, match=message) as refusal:
        read_samples(tmp_path / "x.safetensors", (1, 28, 28))
    assert "\n" not in str(refusal.value)


def test_bad_folders_are_refused(mnist: Data, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(TwoplayerError, match=r"no image"):
        read_samples(tmp_path / "empty", (1, 28, 28))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DataError, match=r"cut\.png .*; mend or remove it"):
        read_samples(tmp_path / "bad", (1, 28, 28))
    with pytest.raises(ConfigurationError, match=r"there is no such folder or file"):
        read_samples(tmp_path / "none", (1, 28, 28))


@pytest.mark.process
def test_real_images_score_their_floor_and_noise_scores_badly(data_root: str, tmp_path: Path) -> None:
    metrics = "metric=[fd,classes,vendi]"
    finished = run("evaluate.py", "samples=real", f"data.root={data_root}", metrics, "output=real", folder=tmp_path)
    assert finished.code == 0, finished.errors
    assert "10,000 samples of real" in finished.output
    content = json.loads((tmp_path / "real" / "scores.json").read_text())
    assert [row["score"] for row in content["scores"]] == ["fd", "class_kl", "class_tv", "effective_classes", "vendi"]
    assert all(row["value"] == row["floor"] for row in content["scores"])
    assert {path.name for path in (tmp_path / "real").iterdir()} == {"scores.json", "scores.csv", "nearest.png", "classes.png"}
    noise = torch.randint(0, 256, (500, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    save_file({"images": noise}, tmp_path / "noise.safetensors")
    finished = run("evaluate.py", "samples=noise.safetensors", f"data.root={data_root}", metrics, "output=noise", folder=tmp_path)
    assert finished.code == 0, finished.errors
    assert "scores of 500 samples do not compare" in finished.output
    assert "floor or ceiling" not in finished.output
    worse = {row["score"]: row for row in json.loads((tmp_path / "noise" / "scores.json").read_text())["scores"]}
    assert worse["fd"]["value"] > 100 * worse["fd"]["floor"]
    assert worse["vendi"]["value"] < worse["vendi"]["floor"]


@pytest.mark.process
def test_a_run_is_scored_over_several_sets_of_latents(data_root: str, tmp_path: Path) -> None:
    short = ["budget.images=64", "metric=[]", "logger=none", "callbacks.samples.num=8", f"data.root={data_root}"]
    assert run("train.py", *short, "run=mine", folder=tmp_path).code == 0
    fewer = ["metric.kid.num_samples=1000", "metric.coverage.num_samples=1000"]
    finished = run("evaluate.py", "run=mine", f"data.root={data_root}", "metric=[fd,kid,coverage]", *fewer, "num=1000", folder=tmp_path)
    assert finished.code == 0, finished.errors
    content = json.loads((tmp_path / "mine" / "evaluation" / "scores.json").read_text())
    for row in content["scores"]:
        assert row["smallest"] <= row["value"] <= row["largest"]
    assert content["scores"][0]["smallest"] < content["scores"][0]["largest"]
    assert (tmp_path / "mine" / "evaluation" / "best_and_worst.png").exists()
    for words, message in (
        (["run=mine", "samples=real"], "name one of them"),
        ([], "name one of them"),
        (["run=mine", "data=fashion_mnist"], "was trained on data=mnist; set data=mnist"),
        (["run=mine", "data.image_size=32"], "data.image_size=32: the run mine was trained with 28; set data.image_size=28"),
        (["run=mine", "data.classes=[3,7]"], "data.classes=[3,7]: the run mine was trained with null; set data.classes=null"),
        (["samples=real", "metric=[label_accuracy]"], "metric=[label_accuracy]: the generator has no labels"),
        (["samples=real", "num=1"], "num=1: must be greater than or equal to 2"),
        (["samples=real", "metric=[kdi]"], "kid"),
    ):
        refused = run("evaluate.py", *words, f"data.root={data_root}", folder=tmp_path)
        assert refused.code == 2, (words, refused.errors)
        assert message in refused.errors
        assert "Traceback" not in refused.errors
