"""Stages at the same time: what goes in comes out, errors too, and nothing runs on."""

from __future__ import annotations

import threading

import pytest

from tinyhd_cli.inference import pipeline
from tinyhd_cli.inference.pipeline import Pipeline


def stages():
    return [thread for thread in threading.enumerate() if thread.name == "tinyhd-stage"]


def test_order_is_kept():
    with Pipeline() as line:
        doubled = (2 * number for number in line.prefetch(range(1000), 3))
        assert list(line.prefetch(doubled, 5)) == list(range(0, 2000, 2))
    assert stages() == []


def test_no_more_is_made_ahead_than_allowed():
    made = []
    taken = threading.Event()

    def numbers():
        for number in range(100):
            made.append(number)
            if number == 4:
                taken.set()
            yield number

    with Pipeline() as line:
        items = line.prefetch(numbers(), 3)
        assert next(items) == 0
        assert taken.wait(10)
        assert len(made) == 5  # one taken, three waiting, one in hand
    assert len(made) <= 6
    assert stages() == []


def test_errors_come_up_where_items_are_taken():
    def numbers():
        yield 1
        raise ValueError("two")

    with Pipeline() as line:
        items = line.prefetch(line.prefetch(numbers(), 2), 2)
        assert next(items) == 1
        with pytest.raises(ValueError, match="two"):
            next(items)
    assert stages() == []


def test_stages_end_when_nobody_wants_them():
    with pytest.raises(KeyboardInterrupt), Pipeline() as line:
        for number in line.prefetch(line.prefetch(iter(int, 1), 2), 2):
            assert number == 0
            raise KeyboardInterrupt
    assert stages() == []


def test_a_stage_that_hangs_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(pipeline, "JOIN_TIMEOUT_S", 0.2)
    go_on = threading.Event()

    def hangs():
        yield 1
        go_on.wait()

    with Pipeline() as line:
        assert next(line.prefetch(hangs(), 1)) == 1
    assert len(stages()) == 1
    go_on.set()
    for thread in stages():
        thread.join(10)
    assert stages() == []
