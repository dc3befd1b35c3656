"""Work on items in processes that may be killed."""

from __future__ import annotations

import sys

import pytest
from helpers import work_items

from tinyhd_cli.errors import WeightsError
from tinyhd_cli.parallel import Finished, Message, Processes, Progress, Ready, run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and /proc")


def finished(events):
    """Return the last events of the items by number."""
    return {event.number: event for event in events if isinstance(event, Finished)}


def test_a_killed_process_fails_its_item_only():
    events = list(run(work_items.noisy, [1, -1, 2, None, 3], Processes(2)))
    assert sum(isinstance(event, Ready) for event in events) == 1
    assert [event.text for event in events if isinstance(event, Message)] == ["prepared"], "once, not per process"
    ends = finished(events)
    assert {number: end.result for number, end in ends.items()} == {0: 2, 1: None, 2: 4, 3: None, 4: 6}
    assert {number: [message.text for message in end.messages] for number, end in ends.items() if number != 1} == {
        0: ["item 1"],
        2: ["item 2"],
        3: [],
        4: ["item 3"],
    }
    assert str(ends[1].error) == (
        "a worker process was killed by signal 9, perhaps because memory ran out; try a smaller --jobs"
    )
    assert "pickle" in str(ends[3].error)
    reports = [event for event in events if isinstance(event, Progress) and event.number == 0]
    assert [(report.phase, report.done, report.total) for report in reports] == [("", 1, 2), ("last", 2, 2)]


def test_processes_that_cannot_start():
    with pytest.raises(WeightsError, match="no such weights"):
        list(run(work_items.missing, [1, 2], Processes(2)))
    ends = finished(run(work_items.dying, [1, 2], Processes(1)))
    assert [str(ends[number].error) for number in (0, 1)] == [
        "a worker process ended unexpectedly (exit code 3); try --jobs 1"
    ] * 2
