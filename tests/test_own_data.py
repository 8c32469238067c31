"""Data of one's own, from IDX and array files: how they are read, and what is wrong with them."""

import gzip
import io
import logging
import pickle
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import save_file

from helpers.games import CPU, composed
from twoplayer.data import array as array_module
from twoplayer.data import idx as idx_module
from twoplayer.data.array import Array
from twoplayer.data.idx import IDX
from twoplayer.data.layouts import to_images
from twoplayer.errors import ConfigurationError, DataError
from twoplayer.settings import compose_config

ANY_SHAPE = ["model=gan", *(f"model.{player}.{size}=8" for player in ("generator", "discriminator") for size in ("channels", "image_size"))]
IMAGES = np.arange(20, dtype=np.uint8).repeat(64).reshape(20, 8, 8)  # each has its number for its pixels
IMAGES[:, 0, 1] = 200
LABELS = np.arange(20) % 3


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_idx(root: Path, prefix: str = "", packed: bool = False, test: str = "t10k", **changes: Any) -> Path:
    """20 training and 20 test images in `root`; `changes` replace the content of files."""
    contents: dict[str, Any] = {
        "train_images": idx(IMAGES),
        "train_labels": idx(LABELS),
        "test_images": idx(255 - IMAGES),
        "test_labels": idx(LABELS),
    }
    root.mkdir(exist_ok=True)
    for name, content in (contents | changes).items():
        part, kind = name.split("_")
        path = root / f"{prefix}{part.replace('test', test)}-{kind}-idx{3 if kind == 'images' else 1}-ubyte"
        if content is not None and packed:
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
        elif content is not None:
            path.write_bytes(content)
    return root


COMMON = {"batch_size": 4, "num_images": None, "classes": None, "num_labels": None, "classifier": None}


def idx_data(root: Path, prefix: str | None = None, **changes: Any) -> IDX:
    found = idx_module.measure(str(root), prefix)
    sizes = {"channels": found.channels, "image_size": found.image_size, "num_classes": found.num_classes}
    data = IDX(root=str(root), prefix=prefix, **COMMON | sizes | changes)
    data.prepare_data()
    return data


def array_data(file: Path, **changes: Any) -> Array:
    found = array_module.measure(str(file))._asdict()
    data = Array(file=str(file), **COMMON | {"range": None} | found | changes)
    data.prepare_data()
    return data


def test_idx_files_are_found_and_measured(tmp_path: Path) -> None:
    data = idx_data(write_idx(tmp_path))
    assert (data.channels, data.image_size, data.num_classes) == (1, 8, 3)
    train, validation, test = data.splits
    assert [len(split.images) for split in data.splits] == [18, 2, 20]
    assert torch.equal(torch.cat([train.images, validation.images])[:, 0], torch.from_numpy(IMAGES))
    assert torch.equal(test.images[:, 0], torch.from_numpy(255 - IMAGES))
    assert torch.equal(test.labels, torch.from_numpy(LABELS))


def test_one_of_several_idx_sets_is_named_by_its_prefix(tmp_path: Path) -> None:
    write_idx(tmp_path, "emnist-letters-", packed=True, test="test", train_images=idx(IMAGES[::-1]))
    assert idx_data(tmp_path).splits.train.images[0, 0, 0, 0] == IMAGES[-1, 0, 0]
    write_idx(tmp_path, "emnist-digits-", test="test")
    with pytest.raises(
        ConfigurationError, match=r"data.prefix=null: .* begin with emnist-digits, emnist-letters; set data.prefix to one of"
    ):
        idx_data(tmp_path)
    with pytest.raises(ConfigurationError, match=r"data.prefix=mnist: .* begin with emnist-digits"):
        idx_data(tmp_path, "mnist")
    assert idx_data(tmp_path, "emnist-letters").splits.train.images[0, 0, 0, 0] == IMAGES[-1, 0, 0]
    assert idx_data(tmp_path, "emnist-digits").splits.train.images[0, 0, 0, 0] == IMAGES[0, 0, 0]


def test_idx_files_without_labels_have_one_class(tmp_path: Path) -> None:
    root = write_idx(tmp_path, train_labels=None, test_labels=None)
    data = idx_data(root)
    assert data.num_classes == 1
    assert data.splits.train.labels.unique().tolist() == [0]
    with pytest.raises(ConfigurationError, match=r"data.num_classes=3: .* has no labels; set data.num_classes=1"):
        idx_data(root, num_classes=3)


def test_idx_images_may_have_channels_and_other_sizes(tmp_path: Path) -> None:
    color = np.zeros((20, 8, 12, 3))
    data = idx_data(write_idx(tmp_path, train_images=idx(color), test_images=idx(color)), image_size=16)
    assert data.splits.train.images.shape == (18, 3, 16, 16)


BROKEN_IDX: dict[str, tuple[dict[str, Any], str]] = {
    "truncated images": ({"train_images": idx(IMAGES)[:-1]}, "train-images.* truncated or altered"),
    "truncated header": ({"train_images": idx(IMAGES)[:6]}, "train-images"),
    "empty file": ({"test_images": b""}, "t10k-images.*not an IDX file"),
    "a text": ({"train_images": b"hello world"}, "train-images.*not an IDX file of unsigned bytes"),
    "floats": ({"train_images": b"\0\0\x0d\x03" + bytes(12)}, "train-images.*not an IDX file of unsigned bytes"),
    "a header of 2**60 images": ({"train_images": b"\0\0\x08\x03" + b"\x7f\xff\xff\xff" * 3}, "train-images.*requires"),
    "vectors": ({"train_images": idx(IMAGES[:, 0])}, r"train-images.* has the shape \(20, 8\), not that of images.*data=array"),
    "five dimensions": ({"train_images": idx(IMAGES.reshape(20, 1, 1, 8, 8))}, r"has the shape \(20, 1, 1, 8, 8\), not that of images"),
    "no images": ({"train_images": idx(IMAGES[:0]), "train_labels": idx(LABELS[:0])}, "holds 0 images"),
    "one image": ({"train_images": idx(IMAGES[:1]), "train_labels": idx(LABELS[:1])}, "holds 1 images"),
    "labels of another length": ({"train_labels": idx(LABELS[:-1])}, r"train-labels.*labels \(19\); there are 20 images"),
    "labels of two dimensions": ({"train_labels": idx(LABELS.reshape(20, 1))}, r"train-labels.*labels \(20, 1\)"),
    "float labels": ({"train_labels": b"\0\0\x0d\x01\0\0\0\x14" + bytes(80)}, "train-labels.*not an IDX file of unsigned bytes"),
    "no test images": ({"test_images": None}, "no file of the test images"),
    "no training labels": ({"train_labels": None}, "no file of the train labels"),
    "nothing": (dict.fromkeys(["train_images", "train_labels", "test_images", "test_labels"]), "there are no IDX files here"),
    "a pickle": ({"train_images": pickle.dumps(IMAGES)}, "train-images.*not an IDX file"),
    "other channels in the test images": ({"test_images": idx(np.zeros((20, 3, 8, 8)))}, "the test split of IDX has images of 3 channels"),
}


def refused(action: Callable[..., Any], *arguments: Any, **settings: Any) -> str:
    """The message of a refusal, one line of the kind that a user sees."""
    with pytest.raises((DataError, ConfigurationError)) as caught:
        action(*arguments, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", BROKEN_IDX)
def test_broken_idx_files_are_one_line(kind: str, tmp_path: Path) -> None:
    changes, expected = BROKEN_IDX[kind]
    assert re.search(expected, refused(idx_data, write_idx(tmp_path, **changes)))


def test_a_broken_gz_of_idx_is_one_line(tmp_path: Path) -> None:
    write_idx(tmp_path, packed=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    assert f"{path} cannot be read" in refused(idx_data, tmp_path)
    path.write_bytes(b"no gzip")
    assert f"{path} cannot be read" in refused(idx_data, tmp_path)


def write(folder: Path, suffix: str = ".npz", **arrays: Any) -> Path:
    path = folder / f"own{suffix}"
    if suffix == ".npz":
        np.savez(path, **arrays)
    else:
        save_file({name: torch.from_numpy(array) for name, array in arrays.items()}, path)
    return path


def vectors(file: Path, *overrides: str) -> DictConfig:
    """A configuration whose model takes any shape."""
    return composed("data=array", f"data.file={file}", *ANY_SHAPE, *overrides)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_images_of_an_array_file(suffix: str, tmp_path: Path) -> None:
    data = array_data(write(tmp_path, suffix, images=IMAGES, labels=LABELS))
    assert (data.channels, data.image_size, data.shape, data.num_classes) == (1, 8, None, 3)
    assert [len(split.images) for split in data.splits] == [16, 2, 2]
    images, labels = (torch.cat(parts) for parts in zip(*data.splits, strict=True))
    first = {int(image[0, 0]): int(label) for image, label in zip(IMAGES, LABELS, strict=True)}
    assert sorted(images[:, 0, 0, 0].tolist()) == sorted(int(image[0, 0]) for image in IMAGES)  # each image is in one split
    assert all(first[int(image[0, 0, 0])] == label for image, label in zip(images, labels, strict=True))
    assert data.splits.train.images.dtype == torch.uint8
    assert data.sha256 == array_data(write(tmp_path, suffix, images=IMAGES, labels=LABELS)).sha256


@pytest.mark.parametrize(
    ("shape", "channels", "size"), [((8, 8), 1, 8), ((3, 8, 8), 3, 8), ((8, 8, 3), 3, 8), ((2, 8, 12), 2, 12), ((3, 8, 3), 3, 8)]
)
def test_layouts_of_images(shape: tuple[int, ...], channels: int, size: int, tmp_path: Path) -> None:
    data = array_data(write(tmp_path, images=np.zeros((20, *shape), np.uint8)))
    assert (data.channels, data.image_size) == (channels, size)
    assert data.splits.train.images.shape == (16, channels, size, size)
    resized = array_data(write(tmp_path, images=np.zeros((20, *shape), np.uint8)), image_size=16)
    assert resized.splits.train.images.shape == (16, channels, 16, 16)


def test_channels_at_the_end_become_the_first() -> None:
    images = torch.arange(2 * 6 * 5 * 3).view(2, 6, 5, 3)
    assert torch.equal(to_images(images)[1, 2], images[1, :, :, 2])


def test_a_file_with_splits_of_its_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    parts: dict[str, Any] = {f"{split}_images": IMAGES[:num] for split, num in (("train", 20), ("val", 5), ("test", 6))}
    labels: dict[str, Any] = {f"{split}_labels": LABELS[:num, None] for split, num in (("train", 20), ("val", 5), ("test", 6))}
    with caplog.at_level(logging.WARNING, logger="twoplayer"):
        data = array_data(write(tmp_path, **parts, **labels, names=np.zeros(3)))
    assert "not used: names" in caplog.text
    assert [len(split.images) for split in data.splits] == [20, 5, 6]
    assert data.splits.validation.labels.tolist() == [0, 1, 2, 0, 1]
    assert caplog.text.count("not used") == 1
    without = array_data(write(tmp_path, images=IMAGES, test_images=IMAGES[:6]))
    assert [len(split.images) for split in without.splits] == [18, 2, 6]


@pytest.mark.parametrize("name", ["images", "data", "anything"])
def test_floats_are_scaled(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    points: Any = np.linspace(2, 6, 60, dtype=np.float64).reshape(30, 2)
    with caplog.at_level(logging.INFO, logger="twoplayer"):
        data = array_data(write(tmp_path, **{name: points}))
    assert "the data range from 2 to 6, which becomes [-1, 1]" in caplog.text
    every = torch.cat([split.images for split in data.splits])
    assert every.dtype == torch.float32
    expected = torch.linspace(-1, 1, 60, dtype=torch.float64).float()
    assert torch.allclose(every.flatten().sort().values, expected, atol=1e-6)
    assert (float(every.min()), float(every.max())) == (-1, 1)
    tenths = write(tmp_path, data=np.linspace(0, 0.1, 60, dtype=np.float32).reshape(30, 2))
    assert float(torch.cat([split.images for split in array_data(tenths, range=[0, 0.1]).splits]).max()) == 1
    wider = torch.cat([split.images for split in array_data(write(tmp_path, data=points), range=[0, 8]).splits])
    assert (float(wider.min()), float(wider.max())) == (-0.5, 0.5)
    assert (data.shape, data.channels, data.image_size, data.num_classes) == ([2], None, None, 1)
    batch = data.batches(seed=0, device=CPU).batch(0)
    assert batch[0].shape == (4, 2)


def test_bytes_may_have_a_range_of_their_own(tmp_path: Path) -> None:
    binary = (IMAGES % 2).astype(np.uint8)
    data = array_data(write(tmp_path, images=binary), range=[0, 1])
    assert data.batches(0, CPU).batch(0)[0].unique().tolist() == [-1, 1]


def test_float_images_are_resized_and_stay_floats(tmp_path: Path) -> None:
    data = array_data(write(tmp_path, images=IMAGES.astype(np.float16)), image_size=16)
    assert data.splits.train.images.dtype == torch.float32
    assert data.splits.train.images.shape == (16, 1, 16, 16)
    assert data.splits.train.images.abs().max() <= 1


@pytest.mark.parametrize("dtype", [">f4", "<f8", ">f2"])
def test_other_byte_orders_and_memory_orders(dtype: str, tmp_path: Path) -> None:
    points = np.asfortranarray(np.arange(60).reshape(30, 2).astype(dtype))
    every = torch.cat([split.images for split in array_data(write(tmp_path, data=points)).splits])
    first = every[:, 0].sort().values
    assert torch.allclose(first, torch.arange(0, 60, 2) * 2 / 59 - 1)
    assert torch.allclose(every[:, 1] - every[:, 0], torch.full((30,), 2 / 59), atol=1e-6)


def test_models_learn_the_shape_of_the_data(tmp_path: Path) -> None:
    references = "+model.shape=${shape:}"
    file = write(tmp_path, data=np.random.default_rng(0).normal(size=(30, 7)))
    assert OmegaConf.select(compose_config("train", "data=array", f"data.file={file}", references), "model.shape") == [7]
    assert OmegaConf.select(compose_config("train", references, "data.image_size=32"), "model.shape") == [1, 32, 32]
    assert Array.gives(vectors(file)) == set()
    assert Array.gives(composed("data=array", f"data.file={write(tmp_path, images=IMAGES, labels=LABELS)}", "model=gan")) == {
        "images",
        "labels",
    }


def test_what_needs_images_is_refused_with_vectors(tmp_path: Path) -> None:
    file = write(tmp_path, data=np.random.default_rng(0).normal(size=(30, 7)))
    for model in ("dcgan", "gan"):
        with pytest.raises(ConfigurationError, match=rf"model={model}: needs images, but an example in .*own.npz is \[7\]; set model=mlp"):
            composed("data=array", f"data.file={file}", f"model={model}")
    with pytest.raises(ConfigurationError, match=r"trick=replay: needs images, but .* leave it out"):
        vectors(file, "trick=[replay]")
    with pytest.raises(ConfigurationError, match=r"data.classifier=mnist: needs images.*set data.classifier=null"):
        vectors(file, "data.classifier=mnist")
    with pytest.raises(
        ConfigurationError, match=r"data.shape=\[8\]: the train split of Array has examples of another shape; set data.shape=\[7\]"
    ):
        array_data(file, shape=[8])
    with pytest.raises(ConfigurationError, match=r"data.shape=None: either images"):
        vectors(file, "data.shape=null")
    with pytest.raises(ConfigurationError, match=r"data.range=\[1.0, 1.0\]: must be two numbers, the smaller one first"):
        vectors(file, "data.range=[1.0,1.0]")


class Mine:
    """Fails the test if it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("the file has run code",)


def array_bytes(array: np.ndarray, **settings: Any) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, **settings)
    return stream.getvalue()


def header(shape: str, dtype: str = "|u1") -> bytes:
    """The header of a .npy file that claims a shape."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def zipped(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


GOOD = zipped(images=array_bytes(IMAGES), labels=array_bytes(LABELS))
OBJECTS = np.array([Mine(), Mine()], dtype=object)


def safetensors(text: str, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text)) + text.encode() + data


def claim(dtype: str, shape: str, end: int) -> str:
    return f'{{"images":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{end}]}}}}'


BROKEN_ARRAYS: dict[str, tuple[bytes, str, str]] = {
    "an empty file": (b"", ".npz", "cannot be read"),
    "a text": (b"hello", ".npz", "cannot be read: File is not a zip file"),
    "a pickle": (pickle.dumps(OBJECTS), ".npz", "cannot be read: File is not a zip file"),
    "truncated": (GOOD[: len(GOOD) // 2], ".npz", "cannot be read"),
    "one bit turned": (GOOD[:60] + bytes([GOOD[60] ^ 8]) + GOOD[61:], ".npz", "cannot be read"),
    "no array": (zipped(), ".npz", "holds no array"),
    "an object array": (zipped(images=array_bytes(OBJECTS)), ".npz", "the array images holds Python objects"),
    "object labels": (zipped(images=array_bytes(IMAGES), labels=array_bytes(OBJECTS)), ".npz", "the array labels holds Python objects"),
    "a pickle for an array": (zipped(images=pickle.dumps(OBJECTS)), ".npz", "cannot be read"),
    "a header of 2**60 bytes": (zipped(images=header("(1152921504606846976, 8, 8)")), ".npz", "requires .*truncated or altered"),
    "a header of a negative size": (zipped(images=header("(-1, -8, 8)") + bytes(64)), ".npz", "truncated or altered"),
    "a header that is code": (zipped(images=header("__import__('os').abort()")), ".npz", "cannot be read"),
    "a nested header": (zipped(images=header("(" * 3000 + ")" * 3000)), ".npz", "cannot be read"),
    "fewer bytes than the header": (zipped(images=header("(20, 8, 8)") + bytes(1279)), ".npz", "1,279 bytes.* requires 1,280"),
    "a member that is no array": (
        zipped(images=array_bytes(IMAGES)).replace(b"images.npy", b"images.txt"),
        ".npz",
        "holds images.txt, which is not an",
    ),
    "text": (zipped(images=array_bytes(np.array(["a", "b", "c"]))), ".npz", "examples of type <U1; save them as uint8 or float32"),
    "complex numbers": (zipped(images=array_bytes(IMAGES * 1j)), ".npz", "examples of type complex128"),
    "64-bit images": (
        zipped(images=array_bytes(IMAGES.astype(np.int64))),
        ".npz",
        "examples of type integer; save them as uint8 or float32",
    ),
    "truth values": (zipped(images=array_bytes(IMAGES > 3)), ".npz", "examples of type bool"),
    "records": (zipped(images=array_bytes(np.zeros(4, dtype=[("a", "f4")]))), ".npz", "examples of type"),
    "NaN": (zipped(images=array_bytes(np.where(IMAGES == 3, np.nan, IMAGES))), ".npz", "example 3 holds a number that is not finite"),
    "infinity": (zipped(images=array_bytes(np.where(IMAGES == 200, -np.inf, IMAGES))), ".npz", "not finite"),
    "too large for float32": (zipped(images=array_bytes(IMAGES * 1e300)), ".npz", "not finite .in float32"),
    "one constant": (zipped(images=array_bytes(np.ones((20, 8, 8)))), ".npz", "all numbers are 1; there is nothing to learn"),
    "no example": (zipped(images=array_bytes(IMAGES[:0])), ".npz", r"examples of shape \(0, 8, 8\)"),
    "no pixel": (zipped(images=array_bytes(IMAGES[:, :0])), ".npz", r"examples of shape \(20, 0, 8\)"),
    "numbers": (zipped(images=array_bytes(IMAGES[:, 0, 0])), ".npz", r"examples of shape \(20,\); it has to be \(N, ...\)"),
    "one number": (zipped(images=array_bytes(np.array(3.0))), ".npz", r"examples of shape \(\)"),
    "too few": (zipped(images=array_bytes(IMAGES[:2])), ".npz", "holds 2 examples, too few for the three splits"),
    "fewer labels": (
        zipped(images=array_bytes(IMAGES), labels=array_bytes(LABELS[:-1])),
        ".npz",
        r"labels of shape \(19,\) for 20 examples",
    ),
    "one-hot labels": (
        zipped(images=array_bytes(IMAGES), labels=array_bytes(np.eye(3)[LABELS].astype(int))),
        ".npz",
        r"labels of shape \(20, 3\)",
    ),
    "negative labels": (zipped(images=array_bytes(IMAGES), labels=array_bytes(LABELS - 1)), ".npz", "a label -1; labels begin at 0"),
    "float labels": (
        zipped(images=array_bytes(IMAGES), labels=array_bytes(LABELS.astype(float))),
        ".npz",
        "labels of type float; save them as whole",
    ),
    "names that say nothing": (
        zipped(one=array_bytes(IMAGES), two=array_bytes(IMAGES)),
        ".npz",
        "holds the arrays one, two; call the examples",
    ),
    "other shapes to test": (
        zipped(images=array_bytes(IMAGES), test_images=array_bytes(IMAGES[:, :4])),
        ".npz",
        "the test split holds .* unlike",
    ),
    "labels for a part": (
        zipped(images=array_bytes(IMAGES), labels=array_bytes(LABELS), test_images=array_bytes(IMAGES)),
        ".npz",
        "test split has no labels",
    ),
    "an empty safetensors": (b"", ".safetensors", "cannot be read"),
    "a pickle as safetensors": (pickle.dumps(OBJECTS), ".safetensors", "cannot be read"),
    "safetensors cut short": (safetensors(claim("U8", "[20,8,8]", 1280), bytes(100)), ".safetensors", "cannot be read"),
    "a huge header": (struct.pack("<Q", 2**60) + b"{}", ".safetensors", "cannot be read"),
    "a false shape": (safetensors(claim("U8", "[2000,8,8]", 1280), bytes(1280)), ".safetensors", "cannot be read"),
    "a type of its own": (safetensors(claim("X9", "[20,8,8]", 1280), bytes(1280)), ".safetensors", "cannot be read"),
    "another kind of file": (b"", ".npy", "must be a file that ends in .npz or .safetensors"),
}


@pytest.mark.parametrize("kind", BROKEN_ARRAYS)
def test_broken_array_files_are_one_line_and_run_nothing(kind: str, tmp_path: Path) -> None:
    content, suffix, expected = BROKEN_ARRAYS[kind]
    path = tmp_path / f"own{suffix}"
    path.write_bytes(content)
    assert re.search(expected, refused(array_data, path))


def test_a_range_holds_all_numbers(tmp_path: Path) -> None:
    file = write(tmp_path, images=IMAGES.astype(np.float32))
    assert "range from 0 to 200; set a range that holds them" in refused(array_data, file, range=[0, 199])


def test_a_missing_file_and_a_missing_setting_are_one_line(tmp_path: Path) -> None:
    assert "absent.npz: there is no such file; name a" in refused(composed, "data=array", f"data.file={tmp_path / 'absent.npz'}")
    assert refused(composed, "data=array") == "data.file is missing: set it with data.file=<value>"
    assert refused(composed, "data=idx") == "data.root is missing: set it with data.root=<value>"
    assert "there are no IDX files here" in refused(composed, "data=idx", f"data.root={tmp_path / 'absent'}")
    assert refused(array_data, write(tmp_path, images=IMAGES), num_classes=4).endswith("has no array `labels`; set data.num_classes=1")
