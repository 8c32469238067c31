"""Checking data before training: a summary, every fault by name, and a contact sheet."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Gt, MinLen
from torch import Tensor

from twoplayer import pictures
from twoplayer.data.base import Data, Split
from twoplayer.data.decoding import Fault, Picture, Target
from twoplayer.data.folder_pairs import FolderPairs, Matching
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
    for read in _folders(data):
        if folder.resolve().is_relative_to(read.root.resolve()):
            raise ConfigurationError(
                f"output={output}: this is in {read.root_setting}, into which nothing is written; set output=<another folder>"
            )
    if isinstance(data, FolderPairs):
        summary, findings, sheet = of_pairs(data, num, columns)
    elif isinstance(data, ImageFolder):
        summary, findings, shown = of_folder(data, [file.name for file in data.listing.files[:num]])
        sheet = _stacked(shown.values())
    else:
        summary, findings, sheet = of_splits(data, num, columns)
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


def _folders(data: Data) -> Sequence[ImageFolder]:
    """The folders that are read, which may be one folder twice."""
    if isinstance(data, FolderPairs):
        return data, data.source_folder
    return (data,) if isinstance(data, ImageFolder) else ()


def report(findings: Findings, most: int | None) -> Iterable[str]:
    """The lines of all findings, of each kind at most so many."""
    for kind, lines in findings.items():
        if lines:
            yield f"{kind}: {len(lines):,}"
            yield from (f"  {line}" for line in lines[:most])
            if most is not None and len(lines) > most:
                yield f"  and {len(lines) - most:,} more"


def of_folder(data: ImageFolder, sheet: Collection[str]) -> tuple[list[str], dict[str, list[str]], dict[str, Tensor]]:
    """Read each file once: the summary, the findings, and the images named in `sheet`, uint8."""
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
    wanted = {*sheet}
    shown: dict[str, Tensor] = {}
    for file, picture in data.examine():
        name = printable(file.name)
        if isinstance(picture, Fault):
            findings[FAULTS].append(f"{name} {picture.reason}")
            continue
        modes[picture.mode] += 1
        sizes[picture.width, picture.height] += 1
        for kind, remarks in ((CONVERTED, conversions(picture, data.target)), (ODD, oddities(picture, data.target))):
            if text := "; ".join(remarks):  # one line per file, so that findings count files
                findings[kind].append(f"{name} {text}")
        other, label = first.setdefault(picture.digest, (name, file.label))
        if other != name:
            findings[DUPLICATES].append(f"{name} equals {other}" + ("" if label == file.label else ", which has another class"))
        if file.name in wanted:
            shown[file.name] = torch.from_numpy(picture.pixels)
    if len(listing.files) < data.fewest:
        findings[FAULTS].append(
            f"{printable(listing.root)} has {len(listing.files)} images; {data.fewest} are the least, one for each split"
        )
    for lines in findings.values():
        lines.sort()
    return _summary(listing, modes, sizes), findings, shown


def of_pairs(data: FolderPairs, num: int, columns: int) -> tuple[list[str], Findings, Tensor]:
    """The same of targets and sources, and which of them have no partner.

    The sheet has a row of targets below each row of their sources; without pairs, of any sources.
    """
    folder, none = data.source_folder, Matching(range(len(data.source_folder.listing.files)), (), (), ())
    places, lonely, unused, doubled = data.matching if data.paired else none
    alone = {*lonely}
    targets = [file.name for file in data.listing.files if file.name not in alone]
    pairs = dict(zip(targets[: num // 2], (folder.listing.files[place].name for place in places), strict=False))
    source_summary, of_sources, source_images = of_folder(folder, pairs.values())
    target_summary, of_targets, target_images = of_folder(data, pairs.keys())
    findings: dict[str, list[str]] = {}
    for kind in FINDINGS:
        if data.source_half is not None and kind in (FAULTS, LEFT_OUT, CONVERTED):
            findings[kind] = of_targets[kind]  # both halves have these from their file
        else:
            findings[kind] = [f"source: {line}" for line in of_sources[kind]] + [f"target: {line}" for line in of_targets[kind]]
    findings[FAULTS] += [f"target: {printable(name)} has no source of the same name" for name in lonely]
    findings[FAULTS] += [
        f"source: {printable(first)} and {printable(second)} are both the source of one target" for first, second in doubled
    ]
    findings[LEFT_OUT] += [f"source: {printable(name)} has no target of the same name" for name in unused]
    shown = [(source, target) for target, source in pairs.items() if source in source_images and target in target_images]
    sheet = pictures.rows_in_turn(
        _stacked(source_images[source] for source, _ in shown), _stacked(target_images[target] for _, target in shown), columns
    )
    summary = [f"{side}: {line}" for side, lines in (("source", source_summary), ("target", target_summary)) for line in lines]
    return summary, findings, sheet


def _stacked(images: Iterable[Tensor]) -> Tensor:
    found = list(images)
    return torch.stack(found) if found else torch.empty(0)


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
