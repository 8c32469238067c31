"""Properties that hold for all inputs of a kind, tried on drawn inputs."""

import math
import string
from typing import Any

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from helpers.games import CPU
from twoplayer.callbacks.samples import log_spaced
from twoplayer.data.base import Batches, Split
from twoplayer.data.idx_format import parse_idx
from twoplayer.errors import DataError
from twoplayer.overrides import FREE
from twoplayer.runs.plan import differences
from twoplayer.runs.saved import great_circles
from twoplayer.settings import leaves

few = settings(deadline=None, derandomize=True, database=None, max_examples=50)


def idx(shape: tuple[int, ...], content: bytes) -> bytes:
    return bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape) + content


arrays = st.lists(st.integers(0, 5), max_size=4).flatmap(
    lambda shape: st.tuples(st.just(tuple(shape)), st.binary(min_size=math.prod(shape), max_size=math.prod(shape)))
)


@few
@given(arrays)
def test_an_idx_file_is_read_as_it_was_written(array: tuple[tuple[int, ...], bytes]) -> None:
    shape, content = array
    read = parse_idx(idx(shape, content), "x")
    assert tuple(read.shape) == shape
    assert read.numpy().tobytes() == content


@few
@given(arrays, st.integers(-20, 20))
def test_an_idx_file_of_another_length_is_refused(array: tuple[tuple[int, ...], bytes], change: int) -> None:
    whole = idx(*array)
    assume(change and -len(whole) <= change)
    with pytest.raises(DataError):
        parse_idx(whole[:change] if change < 0 else whole + bytes(change), "x")


@few
@given(st.binary(max_size=40).map(lambda rest: b"\0\0\x08" + rest) | st.binary(max_size=40))
@example(idx((2**31, 2**31, 4), b""))  # 2 ** 64 bytes, 0 in 64-bit arithmetic
@example(idx((0, 2**31, 2**31, 2**31), b""))
@example(idx((1,) * 70, b"x"))
def test_any_bytes_are_read_whole_or_refused(content: bytes) -> None:
    try:
        read = parse_idx(content, "x")
    except DataError:
        return
    assert content.endswith(read.numpy().tobytes())
    assert len(content) == 4 + 4 * read.dim() + read.numel()


@few
@given(st.integers(1, 30), st.sampled_from([1, 2, 3, 4]), st.integers(1, 6), st.integers(0, 40), st.integers(0, 2**31))
def test_slices_of_the_ranks_are_the_global_batch(num: int, world_size: int, share: int, iteration: int, seed: int) -> None:
    split = Split(torch.arange(num, dtype=torch.uint8).view(-1, 1, 1, 1), torch.arange(num))
    whole = Batches(split, world_size * share, seed, CPU).batch(iteration)
    slices = [Batches(split, world_size * share, seed, CPU, rank, world_size).batch(iteration) for rank in range(world_size)]
    for part, parts in zip(whole, zip(*slices, strict=True), strict=True):
        assert torch.equal(part, torch.cat(parts))
        assert {len(slice_) for slice_ in parts} == {share}


@few
@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 2**31))
def test_every_epoch_is_a_permutation(num: int, batch_size: int, seed: int) -> None:
    split = Split(torch.zeros(num, 1, 1, 1, dtype=torch.uint8), torch.arange(num))
    batches = Batches(split, batch_size, seed, CPU)
    drawn = torch.cat([batches.batch(iteration)[1] for iteration in range(math.ceil(3 * num / batch_size))])
    for epoch in drawn[: 3 * num].view(3, num):
        assert epoch.sort().values.tolist() == list(range(num))


names = st.text(string.ascii_lowercase, min_size=1, max_size=3).filter(lambda name: name not in FREE)
values = st.none() | st.integers(2, 5) | st.booleans() | st.text("ab", max_size=2) | st.lists(st.integers(2, 3), max_size=2)
configurations = st.recursive(
    st.dictionaries(names, values, max_size=3),
    lambda nodes: st.dictionaries(names, values | nodes, max_size=3),
    max_leaves=8,
)


@few
@given(configurations)
def test_leaves_are_the_whole_configuration(config: dict[str, Any]) -> None:
    built: dict[str, Any] = {}
    for path, value in leaves(config):
        *parents, name = path.split(".")
        node = built
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = value
    assert built == config


@few
@given(configurations, configurations)
def test_differences_are_the_leaves_that_differ(one: dict[str, Any], other: dict[str, Any]) -> None:
    then, now = dict(leaves(one)), dict(leaves(other))
    wanted = {name for name in then.keys() | now.keys() if (name in then, then.get(name)) != (name in now, now.get(name))}
    assert {line.partition(" is ")[0] for line in differences(one, other)} == wanted
    assert {line.partition(" is ")[0] for line in differences(other, one)} == wanted
    assert differences(one, one) == []


@few
@given(configurations, st.sampled_from(FREE), values, values)
def test_what_is_free_makes_no_difference(config: dict[str, Any], free: str, then: Any, now: Any) -> None:
    group, _, name = free.partition(".")

    def having(value: Any) -> dict[str, Any]:
        return config | {group: {name: value} if name else value}

    assert differences(having(then), having(now)) == []


@few
@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=60, unique=True).map(sorted), st.integers(3, 12))
def test_log_spaced_moments_are_some_of_those_that_are_there(moments: list[int], num: int) -> None:
    moments = [0, *moments]
    chosen = log_spaced(moments, num)
    assert chosen == sorted(set(chosen))
    assert (chosen[0], chosen[-1]) == (0, len(moments) - 1)
    assert len(chosen) == len(moments) if len(moments) <= num else 2 <= len(chosen) <= num


@few
@given(st.integers(1, 4), st.integers(2, 16), st.integers(2, 9), st.integers(0, 2**31))
def test_great_circles_have_equal_angles_and_both_ends(num: int, dimensions: int, steps: int, seed: int) -> None:
    draws = torch.randn(2, num, dimensions, generator=torch.Generator().manual_seed(seed))
    begin, end = draws / draws.norm(dim=-1, keepdim=True) * dimensions**0.5
    cosines = torch.nn.functional.cosine_similarity(begin, end)
    assume(bool((cosines.abs() < 0.99).all()))
    ways = great_circles(begin, end, steps).view(num, steps, dimensions)
    assert torch.allclose(ways[:, 0], begin, atol=1e-4)
    assert torch.allclose(ways[:, -1], end, atol=1e-4)
    assert torch.allclose(ways.norm(dim=-1), torch.tensor(dimensions**0.5), atol=1e-3)
    angles = torch.nn.functional.cosine_similarity(ways[:, 1:], ways[:, :-1], dim=-1).clamp(-1, 1).acos()
    assert torch.allclose(angles, (cosines.acos() / (steps - 1))[:, None].expand_as(angles), atol=2e-2)
    assert torch.allclose(ways.flip(1).flatten(0, 1), great_circles(end, begin, steps), atol=1e-4)
