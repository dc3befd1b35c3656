"""Damaged TensorFlow checkpoints: the reader detects the damage in limited time and memory."""

from __future__ import annotations

import random
import time
import tracemalloc

import numpy as np
import pytest
import torch
from helpers import tensorflow_checkpoints as tensorflow
from helpers.tensorflow_checkpoints import table, varint, write_parts

from tinyhd_cli.errors import WeightsError
from tinyhd_cli.weights import sorted_table, tensorflow_file
from tinyhd_cli.weights.sorted_table import read_table
from tinyhd_cli.weights.tensorflow_file import read_data_files, read_tensors


def test_large_indexes_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="larger than 2 MiB"):
        read_data_files(bytes(3 << 20), tmp_path / "a.index")
    small = {f"{number:05}".encode(): b"" for number in range(20_000)}
    with pytest.raises(WeightsError, match="more than 10,000 entries"):
        read_table(table(small, block_bytes=50_000))


def stored(content):
    return content + b"\0" + tensorflow.mask(tensorflow.crc32c(content + b"\0"))


def table_of_one_block(block, times):
    """Return a table that states the same block many times."""
    index = tensorflow.block([(b"%05d" % at, varint(0) + varint(len(block))) for at in range(times)])
    handle = varint(len(stored(block))) + varint(len(index))
    footer = (b"\0\0" + handle).ljust(40, b"\0") + tensorflow.MAGIC.to_bytes(8, "little")
    return stored(block) + stored(index) + footer


def test_the_same_block_many_times():
    """A small file could otherwise contain any number of entries, or take any time to check."""
    small = tensorflow.block([(b"a", b""), (b"b", b"")])
    assert list(read_table(table_of_one_block(small, 1))) == [b"a", b"b"]
    empty = bytes(1 << 20) + (1 << 18).to_bytes(4, "little")
    assert read_table(table_of_one_block(empty, 1)) == {}
    start = time.process_time()
    for block in (small, empty):
        with pytest.raises(WeightsError, match="damaged"):
            read_table(table_of_one_block(block, 1000))
    assert time.process_time() - start < 20


@pytest.mark.parametrize(
    "entries",
    [
        varint(0) + varint(1) + varint(0) + b"a" + varint(2) + varint(1) + varint(0) + b"b",  # shares two of one byte
        varint(0) + varint(9) + varint(0) + b"a",
        varint(0) + varint(1) + varint(9) + b"a",
        varint(0) + varint(1 << 63) + varint(1 << 63) + b"a",
        varint(0) + varint(1) + varint(0) + b"b" + varint(0) + varint(1) + varint(0) + b"a",  # not in order
        b"\0",
        b"\xff" * 20,
    ],
)
def test_damaged_blocks_with_a_sound_checksum(entries):
    block = entries + bytes(4) + (1).to_bytes(4, "little")
    with pytest.raises(WeightsError, match="damaged"):
        read_table(table_of_one_block(block, 1))
    with pytest.raises(WeightsError, match="damaged"):  # more restarts than the block has room for
        read_table(table_of_one_block(entries + (1 << 31).to_bytes(4, "little"), 1))


def test_long_names_take_no_time(tmp_path):
    names = [b"a/" * 240 + b"%05d/weight" % number for number in range(9_990)]
    start = time.process_time()
    with pytest.raises(WeightsError, match="none of its 9,990 variables"):
        read_tensors(table({b"": tensorflow.HEADER, **dict.fromkeys(names, b"")}, block_bytes=10**5), [])
    assert time.process_time() - start < 20
    with pytest.raises(WeightsError, match="damaged"):
        read_table(table({b"a" * 501: b""}))


SMALL = {
    "jointDis/conv5_S/weights": np.arange(36, dtype=np.float32).reshape(3, 3, 2, 2),
    "jointDis/conv5_S/BatchNorm/gamma": np.ones(2, np.float32),
    "jointDis/conv5_S/BatchNorm/moving_mean": np.zeros(2, np.float64),
    "jointDis/conv6_S/BatchNorm/gamma": np.ones(3, np.float32),
    "global_step": np.asarray(3000),
}


@pytest.mark.parametrize("checked", [True, False])
def test_flipped_bits(tmp_path, monkeypatch, checked):
    """The checksums detect flipped bits; without the checksums, time and memory are still bounded."""
    if not checked:
        for module in (sorted_table, tensorflow_file):
            monkeypatch.setattr(module, "is_sound", lambda data, checksum: True)
    entries, data = tensorflow.index_and_data(SMALL)
    index, path = table(entries, block_bytes=80), tmp_path / "a.index"
    write_parts(tmp_path / "a", index, data)
    expected = read_tensors(index, read_data_files(index, path))
    assert len(expected) == 4
    choose = random.Random(1)
    refused = 0
    tracemalloc.start()
    start = time.process_time()
    for _ in range(1500):
        bad = bytearray(index)
        for _ in range(choose.choice((1, 1, 1, 2, 8))):
            bad[choose.randrange(len(bad))] ^= 1 << choose.randrange(8)
        try:
            found = read_tensors(bytes(bad), read_data_files(bytes(bad), path))
        except WeightsError as error:
            refused += 1
            assert "\n" not in str(error)
        else:
            if checked:  # the flipped bits are in the padding of the footer
                assert all(torch.equal(found[name], values) for name, values in expected.items())
    assert time.process_time() - start < 30
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert refused > (1200 if checked else 300)


def test_every_flipped_bit_of_the_data_is_detected(tmp_path):
    entries, data = tensorflow.index_and_data(SMALL)
    index = table(entries)
    ignored = entries[b"global_step"]
    for at in range(len(data)):
        bad = bytearray(data)
        bad[at] ^= 0x10
        if at < 8 and ignored:  # global_step is the first variable
            assert len(read_tensors(index, [bytes(bad)])) == 4
            continue
        with pytest.raises(WeightsError, match=r"the checksum of 'jointDis/\w+/[\w/]+' is wrong"):
            read_tensors(index, [bytes(bad)])


@pytest.mark.parametrize("keep", [0, 1, 47, 48, 49, 100, 0.5, -1])
def test_truncated_indexes(tmp_path, keep):
    index = table(tensorflow.index_and_data(SMALL)[0])
    short = index[: keep if isinstance(keep, int) else int(len(index) * keep)]
    with pytest.raises(WeightsError, match="damaged"):
        read_data_files(short, tmp_path / "a.index")
