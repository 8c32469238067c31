"""A feature classifier of one's own: trained, saved, read back, refused where it cannot work."""

import contextlib
import hashlib
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from safetensors.torch import save_file

from helpers.games import CPU, composed
from twoplayer.commands.train_features import accuracy, apart, fit, train_features
from twoplayer.data.base import Split, Splits, to_unit_range
from twoplayer.errors import ConfigurationError, DataError
from twoplayer.metrics.features import Classifier, Takes, load_features, saved
from twoplayer.metrics.scoring import Scoring
from twoplayer.settings import compose_config, plain

SETTINGS: dict[str, Any] = {"epochs": 1, "batch_size": 32, "seed": 0}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RGB images of four classes, a quarter of each bright."""
    generator = np.random.default_rng(0)
    images, labels = generator.integers(0, 60, (400, 3, 16, 16), np.uint8), np.arange(400) % 4
    for image, label in zip(images, labels, strict=True):
        image[:, 8 * (label // 2) :, 8 * (label % 2) :][:, :8, :8] += 180
    path = tmp_path_factory.mktemp("data") / "own.npz"
    np.savez(path, images=images, labels=labels)
    return path


@pytest.fixture(scope="module")
def own(file: Path) -> tuple[Path, str]:
    """A classifier of these images, and what the command printed."""
    weights = file.parent / "new" / "own.safetensors"
    config = compose_config("train_features", "data=array", f"data.file='{file}'", f"output='{weights}'", "epochs=8", "batch_size=32")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        instantiate(plain(config))
    return weights, printed.getvalue()


def settings(file: Path, weights: Path | str, *overrides: str) -> list[str]:
    return ["data=array", f"data.file='{file}'", "model=gan", f"data.classifier='{weights}'", *overrides]


def test_a_classifier_of_ones_own_scores(file: Path, own: tuple[Path, str]) -> None:
    weights, printed = own
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert f"sha256 {sha256}" in printed
    assert "trained on 320 images; accuracy 1.0000 on the test split" in printed
    assert [path.name for path in weights.parent.iterdir()] == ["own.safetensors"]
    config = composed(*settings(file, weights, "metric=[fd,precision_recall]"))
    data = instantiate(config.data)
    scoring = Scoring({name: instantiate(node, num_samples=40) for name, node in config.metric.items()}, data, CPU)
    assert not scoring.reasons
    protocol = scoring.metrics["fd"].protocol()
    assert protocol["features_sha256"] == sha256
    assert protocol["features"].startswith("own.safetensors classifier")
    assert protocol["resize"] == "to 16 x 16, bilinear, antialiased"
    noise = torch.rand(40, 3, 16, 16) * 2 - 1
    assert scoring.score(lambda num, index: noise[:num], ["test"])["test"]["fd"] > 3 * scoring.floors["fd"]


def test_weights_are_the_same_when_read_back(own: tuple[Path, str]) -> None:
    extract = load_features(str(own[0]))
    assert extract.takes == Takes(num_classes=4, channels=3, image_size=16)
    assert saved(extract.classifier) == own[0].read_bytes()


@pytest.mark.parametrize("size", [8, 16, 28, 32, 48, 64, 100, 256])
def test_any_size_has_a_classifier(size: int) -> None:
    classifier = Classifier(Takes(5, 3, size)).eval()
    assert classifier(torch.randn(1, 3, size, size)).shape == (1, 5)
    assert classifier.features.in_features <= 64 * 36


def test_it_never_sees_the_images_that_scores_compare_with(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    data = instantiate(composed("data=array", f"data.file='{file}'", "model=gan").data)
    train, validation, test = data.splits
    assert apart(data) == train
    inside = Split(torch.cat([validation.images, train.images, test.images]), torch.cat([validation.labels, train.labels, test.labels]))
    monkeypatch.setattr(data, "_splits", Splits(inside, validation, test))
    assert torch.equal(apart(data).images, train.images)
    assert torch.equal(apart(data).labels, train.labels)
    monkeypatch.setattr(data, "_splits", Splits(validation, validation, test))
    with pytest.raises(DataError, match="all training images are also in the validation or test split"):
        apart(data)


def test_training_it_is_deterministic(file: Path) -> None:
    split = instantiate(composed("data=array", f"data.file='{file}'", "model=gan").data).splits.train
    one, other = (saved(fit(split, 4, 1, 32, seed=3)) for _ in range(2))
    assert one == other != saved(fit(split, 4, 1, 32, seed=4))


def test_the_accuracy_is_a_share() -> None:
    classifier = Classifier(Takes(2, 1, 16)).eval()
    images = torch.randint(0, 255, (1100, 1, 16, 16), dtype=torch.uint8)
    answers = classifier(to_unit_range(images)).argmax(1)
    assert accuracy(classifier, Split(images, torch.where(torch.arange(1100) < 275, 1 - answers, answers))) == pytest.approx(0.75, abs=2e-3)


def test_what_is_no_classifier_is_refused(file: Path, own: tuple[Path, str], tmp_path: Path) -> None:
    text, arrays, cut = tmp_path / "text.safetensors", tmp_path / "arrays.safetensors", tmp_path / "cut.safetensors"
    text.write_text("no weights at all")
    save_file({"features.weight": torch.zeros(2)}, arrays)
    cut.write_bytes(own[0].read_bytes()[:-100])
    for path, answer in {
        tmp_path / "absent.safetensors": "there is no such file",
        text: "cannot be read as safetensors",
        cut: "cannot be read as safetensors",
        arrays: "holds no feature classifier",
    }.items():
        with pytest.raises(
            DataError, match=f"data.classifier={re.escape(str(path))}: {answer}.*name a file that src/train_features.py"
        ) as caught:
            composed(*settings(file, path))
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigurationError, match=r"data.classifier=mnst: .*or a .safetensors file of src/train_features.py"):
        composed(*settings(file, "mnst"))


def test_a_classifier_of_other_data_is_refused(file: Path, own: tuple[Path, str], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"data.classifier=mnist: takes images of 1 channel, and these have 3; train one"):
        composed(*settings(file, "mnist"))
    with pytest.raises(ConfigurationError, match=r"own.safetensors: knows 4 classes, and these data have 7; train one"):
        composed(*settings(file, own[0], "data.num_classes=7"))
    with pytest.raises(ConfigurationError, match=r"takes images of 3 channels, and these have 1"):
        composed(f"data.classifier='{own[0]}'", "metric=[precision_recall]")
    assert composed(*settings(file, own[0], "data.image_size=20", "data.num_classes=4")).data.image_size == 20


def test_data_that_cannot_train_a_classifier_are_refused(file: Path, tmp_path: Path) -> None:
    data = instantiate(composed("data=array", f"data.file='{file}'", "model=gan").data)
    with pytest.raises(ConfigurationError, match=r"output=own.pt: must end in .safetensors"):
        train_features(data=data, output="own.pt", **SETTINGS)
    data.num_classes = 1
    with pytest.raises(ConfigurationError, match="a classifier needs labels; metric=c2st"):
        train_features(data=data, output="own.safetensors", **SETTINGS)
    vectors = tmp_path / "vectors.npz"
    np.savez(vectors, data=np.random.default_rng(0).normal(size=(40, 5)), labels=np.arange(40) % 2)
    node = plain(compose_config("train_features", "data=array", f"data.file='{vectors}'"))["data"]
    with pytest.raises(ConfigurationError, match="a classifier needs images; metric=c2st"):
        train_features(data=instantiate(node), output=str(tmp_path / "own.safetensors"), **SETTINGS)
    assert not (tmp_path / "own.safetensors").exists()
