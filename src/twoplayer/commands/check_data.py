"""Checking data before training: a summary, every fault by name, and a contact sheet."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Gt, MinLen
from torch import Tensor

from twoplayer import pictures
from twoplayer.data.base import Data, Split
from twoplayer.data.decoding import Fault, Picture, Target
from twoplayer.data.image_folder import ImageFolder
from twoplayer.data.listing import Listing, printable
from twoplayer.errors import ConfigurationError, DataError
from twoplayer.paths import make_folder

FAULTS, LEFT_OUT, CONVERTED, ODD, DUPLICATES = FINDINGS = (
    "faults, which have to be removed, replaced or converted",
    "left out, since they are no images",
    "converted to the mode that is asked for",
    "odd sizes and contents",
    "duplicates, equal after decoding",
)
MOST_PRINTED = 20
"""Of each kind of finding; the file lists all."""

GRAY = frozenset({"1", "L", "LA", "La", "I;16"})


def check_data(*, data: Data, num: Annotated[int, Gt(0)], columns: Annotated[int, Gt(0)], output: Annotated[str, MinLen(1)]) -> None:
    """Print a summary and all findings, and write a contact sheet and the list of findings.

    Raises DataError if training would stop at these data, or if a file cannot be used.
    """
    folder = Path(output)
    if isinstance(data, ImageFolder) and folder.resolve().is_relative_to(data.root.resolve()):
        raise ConfigurationError(f"output={output}: this is in data.root, into which nothing is written; set output=<another folder>")
    summary, findings, sheet = of_folder(data, num) if isinstance(data, ImageFolder) else of_splits(data, num, columns)
    make_folder("output", folder)
    print("\n".join([*summary, *report(findings, MOST_PRINTED)]))
    (folder / "findings.txt").write_text("\n".join([*summary, *report(findings, None)]) + "\n")
    print(folder / "findings.txt")
    if len(sheet):
        pictures.grid(sheet, columns).save(folder / "contact_sheet.png")
        print(folder / "contact_sheet.png")
    if faults := len(findings[FAULTS]):
        raise DataError(
            f"{faults:,} fault{'s' if faults > 1 else ''}; {folder / 'findings.txt'} names {'them all' if faults > 1 else 'it'}"
        )


Findings = Mapping[str, Sequence[str]]


def report(findings: Findings, most: int | None) -> Iterable[str]:
    """The lines of all findings, of each kind at most so many."""
    for kind, lines in findings.items():
        if lines:
            yield f"{kind}: {len(lines):,}"
            yield from (f"  {line}" for line in lines[:most])
            if most is not None and len(lines) > most:
                yield f"  and {len(lines) - most:,} more"


def of_folder(data: ImageFolder, num: int) -> tuple[list[str], Findings, Tensor]:
    """Read each file once: the summary, the findings, and the first images."""
    listing = data.listing
    findings: dict[str, list[str]] = {kind: [] for kind in FINDINGS}
    for name in listing.left_out:
        if name in listing.unread:
            findings[FAULTS].append(f"{printable(name)} has a format that is not read; convert it to PNG or JPEG")
        else:
            findings[LEFT_OUT].append(printable(name))
    modes: Counter[str] = Counter()
    sizes: Counter[tuple[int, int]] = Counter()
    first: dict[bytes, tuple[str, int]] = {}
    sheet: list[Tensor] = []
    for file, picture in data.examine():
        name = printable(file.name)
        if isinstance(picture, Fault):
            findings[FAULTS].append(f"{name} {picture.reason}")
            continue
        modes[picture.mode] += 1
        sizes[picture.width, picture.height] += 1
        findings[CONVERTED] += [f"{name} {remark}" for remark in conversions(picture, data.target)]
        findings[ODD] += [f"{name} {remark}" for remark in oddities(picture, data.target)]
        other, label = first.setdefault(picture.digest, (name, file.label))
        if other != name:
            findings[DUPLICATES].append(f"{name} equals {other}" + ("" if label == file.label else ", which has another class"))
        if len(sheet) < num:
            sheet.append(torch.from_numpy(picture.pixels))
    if len(listing.files) < data.fewest:
        findings[FAULTS].append(
            f"{printable(listing.root)} has {len(listing.files)} images; {data.fewest} are the least, one for each split"
        )
    for lines in findings.values():
        lines.sort()
    return _summary(listing, modes, sizes), findings, torch.stack(sheet) if sheet else torch.empty(0)


def _summary(listing: Listing, modes: Counter[str], sizes: Counter[tuple[int, int]]) -> list[str]:
    of_class = Counter(file.label for file in listing.files)
    classes = [f"{printable(name)} {of_class[label]:,}" for label, name in enumerate(listing.classes)]
    return [
        f"{printable(listing.root)}: {len(listing.files):,} image files",
        f"classes: {', '.join(classes) or 'none'}",
        f"modes: {', '.join(f'{mode} {count:,}' for mode, count in modes.most_common()) or 'none'}",
        f"sizes: {', '.join(f'{width} x {height} ({count:,})' for (width, height), count in sizes.most_common(5)) or 'none'}"
        + (f", and {len(sizes) - 5:,} more" if len(sizes) > 5 else ""),
    ]


def conversions(picture: Picture, target: Target) -> Iterable[str]:
    """What the pixels of a file lose or gain besides transparency."""
    if picture.mode == "I;16":
        yield "has 16 bits, of which the upper 8 are kept"
    if target.channels == 1 and picture.mode not in GRAY:
        yield f"is in colour ({picture.mode}) and becomes gray"
    if target.channels == 3 and picture.mode in GRAY:
        yield f"is gray ({picture.mode}) and gets three equal channels"
    if target.channels == 3 and picture.mode not in GRAY | {"RGB", "RGBA", "RGBa", "RGBX", "P", "PA"}:
        yield f"is {picture.mode} and becomes RGB"


def oddities(picture: Picture, target: Target) -> Iterable[str]:
    """What is unusual about the size or the content of a file."""
    width, height = picture.width, picture.height
    if max(width, height) > 2 * min(width, height):
        yield f"is {width} x {height}, of which less than half remains in the square at its centre"
    if min(width, height) < target.image_size:
        yield f"is {width} x {height} and has to be enlarged to {target.image_size} x {target.image_size}"
    if (picture.pixels == picture.pixels[:, :1, :1]).all():
        yield "has a single colour"


def of_splits(data: Data, num: int, columns: int) -> tuple[list[str], Findings, Tensor]:
    """The same of data that are no folder of images. They are checked as before training."""
    lines, duplicates, places = [], [], list[dict[bytes, int]]()
    for name, split in data.splits._asdict().items():
        first: dict[bytes, int] = {}
        for index, image in enumerate(split.images):
            other = first.setdefault(hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest(), index)
            if other != index:
                duplicates.append(f"image {index} of the {name} split equals image {other}")
        known = sum(image in places[0] for image in first) if places else 0
        lines.append(_of_split(name, split) + (f"; {known:,} are also in the training split" if known else ""))
        places.append(first)
    images = data.shown(num, columns)
    drawable = images.ndim == 4 and images.shape[1] in (1, 3)
    return lines, {FAULTS: [], DUPLICATES: duplicates}, pictures.to_uint8(images) if drawable else torch.empty(0)


def _of_split(name: str, split: Split) -> str:
    images, labels = split
    shape, kind = " x ".join(map(str, images.shape[1:])), str(images.dtype).removeprefix("torch.")
    counts = ", ".join(f"{label}: {count:,}" for label, count in sorted(Counter(labels.tolist()).items()))
    return f"{name}: {len(images):,} of {shape}, {kind} from {images.min():g} to {images.max():g}; by class {counts}"
