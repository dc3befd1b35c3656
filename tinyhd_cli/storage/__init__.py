"""Files in object stores, behind local paths.

A URL such as ``s3://bucket/clip.mp4`` is represented by a stand-in: a path in a private folder of this process that
maps one to one to the URL. Code that handles paths handles stand-ins, too. Only opening a file, listing a folder, and
giving an output its final name differ, by the functions of this package. They do with local paths what ``pathlib``
does, and load fsspec only for URLs.
"""

from .addresses import (
    is_own_process_only,
    is_url,
    name_of,
    named,
    path_of,
    url_of,
    workplace,
)
from .copies import cached_copy, clean, fetched, given_scratch, hold, is_used, limit_scratch, release, share_scratch
from .listing import Entry, entries, exists, fetched_tree, file_size, files_in, is_file, is_folder, is_pattern, matches
from .mirrors import copied, mirror
from .publication import check_destination, publish, remove
from .ranges import open_file, read_bytes

__all__ = [
    "Entry",
    "cached_copy",
    "check_destination",
    "clean",
    "copied",
    "entries",
    "exists",
    "fetched",
    "fetched_tree",
    "file_size",
    "files_in",
    "given_scratch",
    "hold",
    "is_file",
    "is_folder",
    "is_own_process_only",
    "is_pattern",
    "is_url",
    "is_used",
    "limit_scratch",
    "matches",
    "mirror",
    "name_of",
    "named",
    "open_file",
    "path_of",
    "publish",
    "read_bytes",
    "release",
    "remove",
    "share_scratch",
    "url_of",
    "workplace",
]
