"""Read sorted string tables, the LevelDB format that TensorFlow uses for the index of a checkpoint.

A table consists of data blocks with entries sorted by key, an index block with the positions of the data blocks, and a
footer with the position of the index block. The files are not trusted: every position and every checksum is checked.

Source: the format descriptions of LevelDB (``doc/table_format.md``) and of Protocol Buffers.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import WeightsError

MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
"""Last bytes of a table."""

FOOTER_BYTES = 48
TRAILER_BYTES = 5
"""Size of the compression type and the checksum after each block."""

UNCOMPRESSED, SNAPPY = 0, 1

MAX_ENTRIES = 10_000
"""Maximum number of entries of a table. DIS with the slots of its optimizer has 260."""

MAX_KEY_BYTES = 500
"""Maximum size of a key. Keys share prefixes, so a small file could contain many long ones."""

DAMAGED = "damaged, or not the index of a TensorFlow checkpoint"


def crc_table() -> tuple[int, ...]:
    """Return the lookup table for CRC-32C: the remainder of each byte."""
    values = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        values.append(value)
    return tuple(values)


CRC_TABLE = crc_table()


def masked_crc32c(data: bytes | memoryview) -> int:
    """Return the CRC-32C as LevelDB stores it: rotated, plus a constant."""
    table, crc = CRC_TABLE, 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def is_sound(data: bytes | memoryview, checksum: int) -> bool:
    """Return whether data match a masked CRC-32C."""
    return masked_crc32c(data) == checksum


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the variable-length integer of up to 64 bits at a position, and the position after it.

    Raises:
        WeightsError: it is longer, or the data end within it.
    """
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value & (1 << 64) - 1, at
    raise WeightsError(DAMAGED)


def read_fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield numbers and values of the fields of a protocol buffer; ``WeightsError`` if it is damaged."""
    at = 0
    while at < len(message):
        tag, at = read_varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = read_varint(message, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, at = read_varint(message, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise WeightsError(DAMAGED)
        if size > len(message) - at:
            raise WeightsError(DAMAGED)
        content = message[at : at + size]
        yield tag >> 3, content if kind == 2 else int.from_bytes(content, "little")
        at += size


def read_table(data: bytes) -> dict[bytes, bytes]:
    """Return the entries of a table.

    Raises:
        WeightsError: it is damaged, compressed, or too large.
    """
    if len(data) < FOOTER_BYTES or not data.endswith(MAGIC):
        raise WeightsError(DAMAGED)
    footer = data[-FOOTER_BYTES:]
    at = 0
    for _ in range(2):  # the handle of the metadata block, which TensorFlow leaves empty
        at = read_varint(footer, at)[1]
    entries: dict[bytes, bytes] = {}
    last, end = b"", 0
    for _, handle in read_entries(read_block(data, footer[at:])[0]):
        block, end = read_block(data, handle, end)
        for key, value in read_entries(block):
            if entries and key <= last:
                raise WeightsError(DAMAGED)
            if len(entries) == MAX_ENTRIES:
                raise WeightsError(f"refused: its index has more than {MAX_ENTRIES:,} entries")
            entries[key] = value
            last = key
    return entries


def read_block(data: bytes, handle: bytes, start: int = 0) -> tuple[bytes, int]:
    """Return the content of a block, and its end.

    Args:
        data: the table.
        handle: offset and size of the block.
        start: minimum offset, because overlapping blocks could take unlimited time to read.
    """
    offset, at = read_varint(handle, 0)
    size, _ = read_varint(handle, at)
    end = offset + size
    if offset < start or end + TRAILER_BYTES > len(data) - FOOTER_BYTES:
        raise WeightsError(DAMAGED)
    if not is_sound(memoryview(data)[offset : end + 1], int.from_bytes(data[end + 1 : end + TRAILER_BYTES], "little")):
        raise WeightsError(f"{DAMAGED}: a checksum is wrong")
    if data[end] == SNAPPY:
        raise WeightsError("its index is compressed, which is not supported; save it again with tf.train.Saver")
    if data[end] != UNCOMPRESSED:
        raise WeightsError(DAMAGED)
    return data[offset:end], end


def read_entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values of a block.

    A key is stored as the size of the prefix that it shares with the previous key, and the rest. The block ends with
    the positions of the keys that are stored in full, and their number.
    """
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (restarts + 1)
    if len(block) < 4 or end < 0:
        raise WeightsError(DAMAGED)
    block, at, key = block[:end], 0, b""
    while at < end:
        shared, at = read_varint(block, at)
        rest, at = read_varint(block, at)
        size, at = read_varint(block, at)
        if shared > len(key) or rest + size > end - at or shared + rest > MAX_KEY_BYTES:
            raise WeightsError(DAMAGED)
        key = key[:shared] + block[at : at + rest]
        at += rest
        yield key, block[at : at + size]
        at += size
