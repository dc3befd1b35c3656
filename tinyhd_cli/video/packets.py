"""Keep the encoded frames of one part of a video in a file, until those of all parts are joined to one video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.packet import Packet
from numpy.typing import NDArray

from ..atomic_files import cannot_write, publish, remove

ROW = np.dtype([("pts", "<i8"), ("dts", "<i8"), ("duration", "<i8"), ("size", "<i8"), ("key", "?")])
"""A packet in the table of a file."""

Numbers = NDArray[np.int64]


class PacketFile:
    """Writes packets to a file, and their times to a table next to it.

    Args:
        path: the file; it gets this name when it is closed.
        partial: its name until then.
    """

    def __init__(self, path: Path, partial: Path) -> None:
        self._path, self._partial = path, partial
        self._rows: list[tuple[int, int, int, int, bool]] = []
        self._file = partial.open("wb")

    def write(self, packet: Packet[Any]) -> None:
        """Add a packet."""
        pts = packet.pts or 0
        dts = pts if packet.dts is None else packet.dts
        self._rows.append((pts, dts, packet.duration or 0, packet.size, packet.is_keyframe))
        self._file.write(bytes(packet))

    def close(self) -> None:
        """Finish both files; ``OutputError`` if that fails."""
        try:
            self._file.close()
            with table_of(self._path).open("wb") as table:
                np.save(table, np.array(self._rows, ROW))
            publish(self._partial, self._path)
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def abort(self) -> None:
        """Remove the temporary file."""
        self._file.close()
        remove(self._partial)


def table_of(path: Path) -> Path:
    """Return the file with the times of the packets in a file."""
    return path.with_name(f"{path.name}.npy")


def joined_packets(paths: Sequence[Path]) -> Iterator[Packet[Any]]:
    """Yield the packets of consecutive parts, with the decoding times of one video.

    Raises:
        OSError: a file cannot be read.
        ValueError: it is damaged.
    """
    tables = [np.load(table_of(path), allow_pickle=False) for path in paths]
    times = decoding_times(tables)
    number = 0
    for path, table in zip(paths, tables, strict=True):
        with path.open("rb") as file:
            for row in table:
                packet = av.Packet(file.read(int(row["size"])))
                packet.pts, packet.dts, packet.duration = int(row["pts"]), int(times[number]), int(row["duration"])
                packet.is_keyframe = bool(row["key"])
                yield packet
                number += 1


def decoding_times(tables: Sequence[NDArray[Any]]) -> Numbers:
    """Return the decoding times of the packets of consecutive parts.

    An encoder that reorders frames by ``n`` gives packet ``i`` the presentation time of frame ``i - n`` in display
    order, and the first ``n`` packets earlier times. So does this, because the first packets of the other parts have
    times that were chosen without regard to the frames before them.
    """
    tables = [table for table in tables if len(table)]
    if not tables:
        return np.empty(0, np.int64)
    delays = [int((table["dts"] < table["pts"].min()).sum()) for table in tables]
    delay, shown = max(delays), np.sort(np.concatenate([table["pts"] for table in tables]))
    first = tables[0]["dts"][:delay]
    if delays[0] < delay or len(first) < delay:  # the first part is too short to show its delay
        step = int(shown[1] - shown[0]) if len(shown) > 1 else 1
        first = shown[0] + step * np.arange(-delay, 0)
    times: Numbers = np.concatenate([first, shown])[: len(shown)]
    return times
