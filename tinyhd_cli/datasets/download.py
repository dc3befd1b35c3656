"""Download datasets from the Hugging Face Hub: plan, fetch, verify, unpack; the data appears complete or not at all.

Everything is collected in a hidden folder next to the dataset's own, on the same disk. What is in its ``files`` is
verified, so an interrupted download continues with the rest. At the end that folder is renamed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..atomic_files import destination, make_parent
from ..errors import InputError, OutputError, UsageError
from ..wording import list_names
from . import archive
from .catalog import DatasetInfo, HubSource, download_folder, where_to_name
from .manifest import HubFile, Manifest
from .map_video_layouts import read_splits
from .selection import Lists, Selection, is_of_video
from .staging import Staging, files_below, locked, merge, move
from .transfer import Progress, Stopped, fetch, list_files

REVISION = "main"

THREADS = 4
"""Files that are fetched at the same time."""

OF_DISK = "lost+found"
"""Folder in the topmost folder of a disk."""


@dataclass(frozen=True)
class Plan:
    """A download that has not started."""

    info: DatasetInfo
    folder: Path
    """Folder of the dataset."""
    selection: Selection
    manifest: Manifest
    wanted: tuple[HubFile, ...]
    missing: tuple[HubFile, ...]
    """The wanted files that are not in the folder, nor fetched and verified."""
    bytes: int
    """Bytes to fetch."""
    space: int
    """Bytes that the disk must have, with the largest archive and its files side by side."""
    free: int
    """Free bytes on the disk."""

    @property
    def source(self) -> HubSource:
        """The repository."""
        assert self.info.hub is not None
        return self.info.hub

    @property
    def staging(self) -> Staging:
        """The hidden folder."""
        return Staging(self.folder)

    @property
    def is_published(self) -> bool:
        """Whether all wanted files are in the folder under their final names."""
        return not self.missing and not self.staging.files.exists()


def plan(info: DatasetInfo, selection: Selection, revision: str | None = None, out: Path | None = None) -> Plan:
    """Return the plan of a download. A request is sent to the Hub only if no earlier download has recorded its files.

    Args:
        info: the dataset.
        selection: the part to download.
        revision: branch, tag or commit of the repository. Default: that of the earlier download, else ``main``.
        out: folder of the dataset. Default: the one in ``[datasets]``, else its name in the folder of datasets.

    Raises:
        UsageError: the dataset is not on the Hub, the folder holds another dataset or revision, or nothing matches
            the selection.
        WeightsError: the Hub cannot be reached.
    """
    if info.hub is None:
        home = f": get it from its authors ({info.homepage})" if info.homepage else ""
        raise UsageError(f"{info.name} is not on the Hub{home}; then {where_to_name(info.name)}")
    selection.check(info.hub)
    folder = destination(out or download_folder(info.name))
    staging = Staging(folder)
    manifest = recorded(staging)
    if manifest is None:
        if folder.exists() and not is_empty(folder, staging):
            raise UsageError(
                f"{folder}: exists, but was not made by tinyhd datasets download; choose another folder with --out"
            )
        manifest = list_files(info.name, info.hub, revision or REVISION, folder)
    elif manifest.repo != info.hub.repo:
        raise UsageError(f"{folder}: holds {manifest.repo}, not {info.hub.repo}; choose another folder with --out")
    elif revision not in (None, manifest.revision, manifest.commit):
        raise UsageError(
            f"--revision {revision}: {folder} holds revision {manifest.revision} ({manifest.commit[:8]}); "
            "choose another folder with --out"
        )
    return compare(info, info.hub, selection, manifest, staging)


def recorded(staging: Staging) -> Manifest | None:
    """Return the record of earlier downloads, or None if there is none."""
    return Manifest.read(staging.root) or Manifest.read(staging.folder)


def is_empty(folder: Path, staging: Staging) -> bool:
    """Return whether a path is a folder without files of others."""
    return folder.is_dir() and all(path == staging.root or path.name == OF_DISK for path in folder.iterdir())


def compare(info: DatasetInfo, source: HubSource, selection: Selection, manifest: Manifest, staging: Staging) -> Plan:
    """Return what is missing; ``UsageError`` if nothing matches the selection."""
    wanted = tuple(file for file in manifest.files if selection.has_file(file.path, source))
    lists = split_lists(source, selection, staging)
    missing = tuple(file for file in wanted if not is_complete(file, manifest, source, selection, staging, lists))
    if not wanted or (selection.ranges and not any_video(wanted, manifest, source, selection)):
        raise UsageError(f"{info.name} has no files for {selection}: the repository {source.repo} lists none")
    count = sum(file.size - staging.fetched(file) for file in missing)
    archives = [file.size for file in missing if file.is_archive]
    free, space = shutil.disk_usage(existing(staging.root)).free, count + max(archives, default=0)
    return Plan(info, staging.folder, selection, manifest, wanted, missing, count, space, free)


def any_video(wanted: Sequence[HubFile], manifest: Manifest, source: HubSource, selection: Selection) -> bool:
    """Return whether a selection by numbers has a video, as far as is known before archives are read."""
    unread = any(file.is_archive and file.path not in manifest.archives for file in wanted)
    members = (member.path for file in wanted for member in manifest.archives.get(file.path, ()))
    return unread or any(map(is_of_video, [*(file.path for file in wanted), *selection.members(members, source, None)]))


def existing(folder: Path) -> Path:
    """Return the nearest folder above that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def is_complete(
    file: HubFile,
    manifest: Manifest,
    source: HubSource,
    selection: Selection,
    staging: Staging,
    lists: Lists | None,
) -> bool:
    """Return whether a file is there; for an archive, whether its chosen files are."""
    if not file.is_archive:
        return staging.has(file.path, file.size)
    if file.path not in manifest.archives:
        return False
    members = {member.path: member for member in manifest.archives[file.path]}
    return all(staging.has(path, members[path].size) for path in selection.members(members, source, lists))


def split_lists(source: HubSource, selection: Selection, staging: Staging) -> Lists | None:
    """Return the names of the videos of each split, or None if the dataset has no such file, or it is not there yet.

    Raises:
        InputError: the file of lists is malformed.
    """
    if not source.lists:
        return None
    path = next((path for path in staging.places(source.lists) if path.is_file()), None)
    return {key: frozenset(names) for key, names in read_splits(path).items()} if path else None


# --------------------------------------------------------------------------------------------------------- downloading


def download(planned: Plan, on_progress: Callable[[int, int], None] = lambda done, total: None) -> Path:
    """Run a plan, and return the folder of the dataset.

    Args:
        planned: result of :func:`plan`.
        on_progress: called with the bytes that are done and all bytes, those of earlier attempts included.

    Raises:
        OutputError: there is no space, or the folder cannot be written.
        InputError: a file arrived damaged, or an archive is damaged or unsafe.
        WeightsError: the Hub cannot be reached.
    """
    staging = planned.staging
    if planned.is_published:
        return planned.folder
    if planned.space > planned.free:
        raise OutputError(
            f"{planned.folder}: no space: {planned.space:,} bytes are needed, {planned.free:,} are free; free disk "
            "space, choose a part with --split or --videos, or another disk with --out"
        )
    make_parent(planned.folder)
    with locked(staging, planned.info.name):
        planned = renewed(planned)
        planned.manifest.write(staging.root)
        progress = Progress(sum(file.size for file in planned.missing), on_progress)
        fetch_all(planned, [file for file in planned.missing if not file.is_archive], progress)
        check_numbers(planned)
        planned = renewed(planned)  # the lists of splits are there now: perhaps no more of an archive is needed
        for file in planned.missing:
            if file.is_archive:
                fetch_archive(planned, file, progress)
        publish(planned)
    return planned.folder


def renewed(planned: Plan) -> Plan:
    """Return the plan for the files that are there now: another process may have downloaded some since.

    Raises:
        UsageError: it downloaded another commit.
    """
    staging = planned.staging
    manifest = recorded(staging) or planned.manifest
    if (manifest.repo, manifest.commit) != (planned.manifest.repo, planned.manifest.commit):
        raise UsageError(f"{planned.folder}: another process has changed it; run the same command again")
    return compare(planned.info, planned.source, planned.selection, manifest, staging)


def check_numbers(planned: Plan) -> None:
    """Raise ``UsageError`` before archives are fetched if no listed video has a selected number."""
    source, selection = planned.source, planned.selection
    if not source.lists or not selection.ranges:
        return
    listed = split_lists(source, selection, planned.staging) or {}
    keys = source.keys[selection.split] if selection.split else tuple(listed)
    names = [name for key in keys for name in listed.get(key, ())]
    if names and not any(map(selection.has_video, names)):
        raise UsageError(f"{planned.info.name} has no files for {selection}; its videos are named {list_names(names)}")


def fetch_all(planned: Plan, files: Sequence[HubFile], progress: Progress) -> None:
    """Fetch files that are not archives, several at the same time."""

    def one(file: HubFile) -> None:
        part, target = planned.staging.part(file), planned.staging.files / file.path
        fetch(planned.info.name, planned.manifest, file, part, progress)
        move(part, target)

    # Files of the same content have the same temporary name: they are fetched one after the other.
    by_digest: dict[str, HubFile] = {}
    for file in files:
        by_digest.setdefault(file.digest, file)
    with ThreadPoolExecutor(THREADS) as pool:
        transfers = [pool.submit(one, file) for file in by_digest.values()]
        try:
            done, _ = wait(transfers, return_when=FIRST_EXCEPTION)
            errors = [error for transfer in done if (error := transfer.exception())]
            if errors:
                raise next((error for error in errors if not isinstance(error, Stopped)), errors[0])
        except BaseException:
            progress.stopped.set()
            pool.shutdown(cancel_futures=True)
            raise
    for file in files:
        if by_digest[file.digest] is not file:
            one(file)


def fetch_archive(planned: Plan, file: HubFile, progress: Progress) -> None:
    """Fetch an archive, unpack the chosen files and remove the archive.

    Raises:
        InputError: it is damaged or unsafe; nothing of an unsafe archive is unpacked.
    """
    staging, part = planned.staging, planned.staging.part(file)
    fetch(planned.info.name, planned.manifest, file, part, progress)
    lists = split_lists(planned.source, planned.selection, staging)
    try:
        with archive.opened(part) as packed:
            members = archive.list_members(packed, Path(file.path).stem)
            chosen = set(planned.selection.members([member.path for member in members], planned.source, lists))
            wanted = [
                member for member in members if member.path in chosen and not staging.has(member.path, member.size)
            ]
            archive.unpack(packed, wanted, staging.files, part.with_suffix(".unpacking"), progress.check)
    except InputError as error:
        raise InputError(
            f"{planned.info.name}: {file.path} {error}; the file is as published in {planned.source.repo}"
        ) from error
    kept = [member for member in members if not planned.source.skips(member.path)]
    planned.manifest.archives[file.path] = tuple(kept)
    planned.manifest.write(staging.root)
    part.unlink()


def publish(planned: Plan) -> None:
    """Give the collected files of the plan their final names; files of other interrupted downloads stay hidden.

    The folder is renamed, or its files are moved into that of an earlier download.
    """
    staging, manifest = planned.staging, planned.manifest
    chosen = chosen_paths(planned)
    for path in files_below(staging.files):
        if path not in chosen:
            move(staging.files / path, staging.later / path)
    manifest.write(staging.files)
    with suppress(OSError):  # it has files, or is a disk
        staging.folder.rmdir()
    if staging.folder.exists():
        merge(staging.files, staging.folder)
    else:
        staging.files.replace(staging.folder)
    if staging.later.exists():
        staging.later.replace(staging.files)


def chosen_paths(planned: Plan) -> set[str]:
    """Return the paths of all files of a plan, those in archives included."""
    lists = split_lists(planned.source, planned.selection, planned.staging)
    members = [member.path for file in planned.wanted for member in planned.manifest.archives.get(file.path, ())]
    return {file.path for file in planned.wanted} | {*planned.selection.members(members, planned.source, lists)}
