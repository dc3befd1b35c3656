"""Tests of concurrent stages: all items and errors are passed on, and all threads end."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from tinyhd_cli.inference import pipeline
from tinyhd_cli.inference.pipeline import Pipeline


def stages():
    return [thread for thread in threading.enumerate() if thread.name == "tinyhd-stage"]


def test_order_is_kept():
    with Pipeline() as pipeline_:
        doubled = (2 * number for number in pipeline_.prefetch(range(1000), 3))
        assert list(pipeline_.prefetch(doubled, 5)) == list(range(0, 2000, 2))
    assert stages() == []


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 100])
def test_items_in_groups(count):
    """An incomplete group at the end, or before an error, is passed on, too."""

    def numbers():
        yield from range(count)
        raise ValueError("end")

    with Pipeline() as pipeline_:
        assert list(pipeline_.prefetch(pipeline_.prefetch(range(count), 16, 8), 16, 8)) == list(range(count))
        found = []
        with pytest.raises(ValueError, match="end"):
            found.extend(pipeline_.prefetch(numbers(), 16, 8))
        items = pipeline_.prefetch(numbers(), 16, 8)
        assert [next(items) for _ in range(count)] == list(range(count))
    assert stages() == []


def test_prefetching_is_limited():
    made = []
    taken = threading.Event()

    def numbers():
        for number in range(100):
            made.append(number)
            if number == 4:
                taken.set()
            yield number

    with Pipeline() as pipeline_:
        items = pipeline_.prefetch(numbers(), 3)
        assert next(items) == 0
        assert taken.wait(10)
        assert len(made) == 5  # one consumed, three in the queue, one being put
    assert len(made) <= 6
    assert stages() == []


def test_errors_are_raised_in_the_consumer():
    def numbers():
        yield 1
        raise ValueError("two")

    with Pipeline() as pipeline_:
        items = pipeline_.prefetch(pipeline_.prefetch(numbers(), 2), 2)
        assert next(items) == 1
        with pytest.raises(ValueError, match="two"):
            next(items)
    assert stages() == []


def test_stages_end_on_interruption():
    with pytest.raises(KeyboardInterrupt), Pipeline() as pipeline_:
        for number in pipeline_.prefetch(pipeline_.prefetch(iter(int, 1), 2), 2):
            assert number == 0
            raise KeyboardInterrupt
    assert stages() == []


def test_blocked_stage_does_not_block_shutdown(monkeypatch):
    monkeypatch.setattr(pipeline, "JOIN_TIMEOUT_S", 0.2)
    resume = threading.Event()

    def blocking():
        yield 1
        resume.wait()

    with Pipeline() as pipeline_:
        assert next(pipeline_.prefetch(blocking(), 1)) == 1
    assert len(stages()) == 1
    resume.set()
    for thread in stages():
        thread.join(10)
    assert stages() == []


ABANDON = """
from tinyhd_cli.inference.pipeline import Pipeline

def stage():
    try:
        while True:
            yield 0
    finally:
        print("stopped")

def numbers():
    with Pipeline() as pipeline:
        yield from pipeline.prefetch(stage(), 2)

abandoned = numbers()
next(abandoned)
"""


def test_the_end_of_the_program_stops_the_stages_of_an_abandoned_iterator():
    """A thread that still computed in PyTorch would abort the program, even after its results are printed."""
    run = subprocess.run([sys.executable, "-c", ABANDON], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout, run.stderr) == (0, "stopped\n", "")
