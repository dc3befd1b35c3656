"""The same work on each video of a dataset: in this process, or wherever :func:`tinyhd_cli.parallel.run` works."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import parallel
from ..datasets import Dataset, Video
from ..errors import TinyhdError, describe_unexpected
from ..storage import given_scratch, share_scratch, url_of
from ..system import keep_freed_memory

log = logging.getLogger("tinyhd")

MALLOC_KEEP_BYTES = 512 << 20
"""Freed memory that a process keeps instead of returning it to the system."""

OnFrame = Callable[[], None]
"""Callback that the work calls after each frame."""


@dataclass(frozen=True)
class Item:
    """A video to work on. Another process gets no other videos of the dataset."""

    index: int
    """Position in the dataset."""
    video: Video
    files: tuple[Path, ...] = ()
    """Its files in stores, which the work copies (``storage.copied``)."""


Work = Callable[[Item, OnFrame], Any]
"""The work on one video: returns a picklable result."""

Lost = Callable[[Item, TinyhdError], Any]
"""Returns the result for a video whose process was killed."""


def items_of(dataset: Dataset, files: Callable[[Video], Iterable[Path]]) -> list[Item]:
    """Return the videos of a dataset, in order.

    Args:
        dataset: the dataset.
        files: returns the files that the work on a video reads.
    """
    return [Item(index, video, files_to_copy(video, files(video))) for index, video in enumerate(dataset.videos)]


def files_to_copy(video: Video, files: Iterable[Path]) -> tuple[Path, ...]:
    """Return those of a video's files that are in stores, except its video file, which is read by ranges."""
    remote = [path for path in files if url_of(path) is not None]
    return tuple(path for path in remote if not (path == video.source and video.is_file))


@dataclass(frozen=True)
class InProcess:
    """Prepares a worker process, once. Picklable."""

    make_work: Callable[[], Work]
    processes: int
    """Number of processes on this machine, which share ``--scratch``."""
    scratch: str | None = field(default_factory=given_scratch)

    def __call__(self) -> parallel.Work:
        """Return the work on an item; it raises no error, as :func:`tinyhd_cli.parallel.run` requires."""
        from threadpoolctl import threadpool_limits

        threadpool_limits(1, "blas")  # the matrix products that resize maps are too small for several threads
        keep_freed_memory(MALLOC_KEEP_BYTES)
        share_scratch(self.processes, self.scratch)
        work = self.make_work()

        def attempt(item: Item, report: parallel.Report) -> Any:
            done = 0

            def on_frame() -> None:
                nonlocal done
                done += 1
                report("", done, None)

            try:
                return work(item, on_frame)
            except TinyhdError as error:
                return error
            except Exception as error:
                log.debug("%s", item.video.name, exc_info=True)
                return TinyhdError(f"{item.video.name}: {describe_unexpected(error)}")

        return attempt


def each_video(
    make_work: Callable[[], Work],
    items: Sequence[Item],
    where: parallel.Where | None,
    progress: Callable[[int], None],
    lost: Lost,
    notify: Callable[[str], None] = lambda text: None,
) -> Iterator[tuple[int, Any]]:
    """Run the work on each video; yield positions in the dataset and results, in the order in which they are finished.

    Args:
        make_work: called once in each process, and returns the work; picklable unless ``where`` is None.
        items: the videos.
        where: the processes that work; None for this process.
        progress: called regularly with the number of finished frames.
        lost: returns the result for a video whose process was killed; the others go on.
        notify: called with remarks, such as the address of a cluster's dashboard; warnings are logged.

    Raises:
        TinyhdError: the work raised it.
    """
    if where is None:
        yield from one_by_one(make_work(), items, progress)
        return
    processes = (where.count if isinstance(where, parallel.Processes) else where.local) or 1
    done, total = [0] * len(items), 0
    with contextlib.closing(parallel.run(InProcess(make_work, processes), items, where)) as events:
        for event in events:
            if isinstance(event, parallel.Message):
                if event.level == logging.INFO:
                    notify(event.text)
                else:
                    log.log(event.level, "%s", event.text)
            elif isinstance(event, parallel.Again):
                log.warning("%s: is run again: %s", items[event.number].video.name, event.reason)
            elif isinstance(event, parallel.Progress):
                total += event.done - done[event.number]
                done[event.number] = event.done
                progress(total)
            elif isinstance(event, parallel.Finished):
                item = items[event.number]
                for message in event.messages:
                    log.log(message.level, "%s", message.text)
                result = lost(item, event.error) if event.error else event.result
                if isinstance(result, TinyhdError):
                    raise result
                yield item.index, result


def one_by_one(work: Work, items: Sequence[Item], progress: Callable[[int], None]) -> Iterator[tuple[int, Any]]:
    """Do the same in this process."""
    count = 0

    def on_frame() -> None:
        nonlocal count
        count += 1
        progress(count)

    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        for item in items:
            yield item.index, work(item, on_frame)
