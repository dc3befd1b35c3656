"""Check which videos are in which split of CrowdSAL, NTIRE 2026 and AViMoS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import InputError, one_line
from ..untrusted import parse_json
from ..wording import list_names, plural
from .findings import Finding
from .images import last_number, natural_key
from .map_video_layouts import CROWDSAL_FOLDERS, SPLIT_FILE, TESTS, ChallengeFiles, crowdsal_files, read_splits

LAST_TRAINING_VIDEO = 3000
"""Number of the last training video of CrowdSAL; test videos are numbered from the next one."""

METADATA_FILE = "metadata.jsonl"
"""License and source of each video of CrowdSAL, one JSON object per line."""

MAX_METADATA_BYTES = 1 << 26
"""Size limit of ``METADATA_FILE``."""


def check_crowdsal(root: Path, split: str | None) -> Iterator[Finding]:
    """Yield findings about the split of CrowdSAL: videos of the other split, and videos without license and source."""
    names = {key: {name for files in crowdsal_files(root, key) for name in files} for key in CROWDSAL_FOLDERS}
    yield from listing("in both Train and Test", names["train"] & names["test"])
    split = split or "test"
    numbers = {name: last_number(name) for name in names[split]}
    other = [
        name
        for name, number in numbers.items()
        if number is not None and (number > LAST_TRAINING_VIDEO) == (split == "train")
    ]
    allowed = f"0001-{LAST_TRAINING_VIDEO}" if split == "train" else f"{LAST_TRAINING_VIDEO + 1}-5000"
    yield from listing(f"of the other split in {CROWDSAL_FOLDERS[split]}, which has {allowed}", other)
    yield from check_metadata(root / CROWDSAL_FOLDERS[split] / METADATA_FILE, names[split])


def check_metadata(path: Path, names: Iterable[str]) -> Iterator[Finding]:
    """Yield findings about the licenses and sources of videos; none if there is no such file."""
    if not path.is_file():
        return
    described: set[str] = set()
    try:
        with path.open("rb") as file:
            lines = file.read(MAX_METADATA_BYTES).splitlines()
        for number, line in enumerate(lines, start=1):
            if line.strip():
                described |= stems(parse_line(line, number))
    except (OSError, ValueError) as error:
        yield Finding("", f"{path}: {one_line(error)}")
        return
    yield from listing(f"without a line in {path}", set(names) - described, fault=False)


def parse_line(line: bytes, number: int) -> Any:
    """Return the JSON value of a line; ``ValueError`` with the number of the line if it is not JSON."""
    try:
        return parse_json(line)
    except ValueError as error:
        raise ValueError(f"line {number} is not JSON ({one_line(error)})") from error


def stems(value: Any) -> set[str]:
    """Return the text values of a JSON object, as names of files without folder and suffix."""
    values = value.values() if isinstance(value, dict) else ()
    return {PurePosixPath(text).stem for text in values if isinstance(text, str)}


def check_challenge(root: Path, split: str | None) -> Iterator[Finding]:
    """Yield findings about the splits of a challenge: names without files, repeated names, files of no split."""
    try:
        splits = read_splits(root / SPLIT_FILE)
    except InputError as error:
        yield Finding("", str(error))
        return
    counts = Counter(name for names in splits.values() for name in names)
    yield from listing(f"more than once in {SPLIT_FILE}", [name for name, count in counts.items() if count > 1])
    files = {part: ChallengeFiles(root, part) for part in ("Train", "Test")}
    here = {*files["Test"].sources, *(name for found in files.values() for name in found.annotated)}
    chosen = [name for key in (TESTS if split in (None, "test") else (split,)) for name in splits.get(key, [])]
    yield from listing(f"of {split or 'test'} in {SPLIT_FILE} without any file", set(chosen) - here)
    yield from listing(f"in Videos, but not in {SPLIT_FILE}", files["Test"].sources.keys() - counts.keys())
    for part, found in files.items():
        members = {name for key, names in splits.items() if (key == "train") == (part == "Train") for name in names}
        if part == "Train" and "train" not in splits:
            members = set(found.sources) - counts.keys()
        yield from listing(f"with annotations among those of {part}, but not in this split", found.annotated - members)


def listing(message: str, names: Iterable[str], fault: bool = True) -> Iterator[Finding]:
    """Yield a finding that lists videos; none if there are no videos."""
    if ordered := sorted(names, key=natural_key):
        yield Finding("", f"{plural(len(ordered), 'video')} {message}: {list_names(ordered)}", fault)
