"""What tinyhd finds on this machine, what is missing, and what to do about it."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from . import cache, settings
from .errors import TinyhdError, one_line
from .system import available_cores
from .version import __version__

Status = Literal["ok", "note", "fault"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    status: Status
    """``note``: something would work better otherwise; ``fault``: something does not work."""
    found: str
    advice: str = ""
    """What to do, in a line; empty if nothing is to be done."""


def examine() -> list[Finding]:
    """Look at everything. Whatever breaks is a finding, not an error."""
    findings: list[Finding] = []
    parts: tuple[Callable[[], Iterator[Finding]], ...] = (
        versions,
        devices,
        engines,
        encoders,
        weights,
        folders,
        configuration,
    )
    for part in parts:
        try:
            findings += part()
        except Exception as error:  # what the doctor trips over is what the user must know
            line = f"{type(error).__name__}: {one_line(error)}"
            findings.append(
                Finding(part.__name__, "fault", line, "install tinyhd again: pip install --force-reinstall")
            )
    return findings


def versions() -> Iterator[Finding]:
    """Python and the packages that do the work."""
    yield Finding("tinyhd", "ok", f"{__version__} in {Path(__file__).resolve().parent}")
    yield Finding("python", "ok", f"{platform.python_version()}, {platform.system()} {platform.machine()}")
    import av
    import cv2

    names = ("torch", "av", "numpy", "huggingface-hub", "safetensors")
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    yield Finding("packages", "ok", f"{packages}, OpenCV {cv2.__version__}")
    yield Finding("FFmpeg", "ok", f"{av.ffmpeg_version_info} (inside the av package)")


def devices() -> Iterator[Finding]:
    """Where networks run."""
    import torch

    from .inference.model import pick_device

    threads = torch.get_num_threads()
    few = threads < available_cores()
    advice = f"OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']} holds it back" if "OMP_NUM_THREADS" in os.environ else ""
    yield Finding(
        "processor", "note" if few and advice else "ok", f"{available_cores()} cores, {threads} threads", few * advice
    )
    chosen = pick_device("auto")
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
        yield Finding("device", "ok", f"{chosen} ({names})")
    elif torch.version.cuda:
        yield Finding(
            "device", "note", str(chosen), "PyTorch is a CUDA build but sees no GPU: is the driver installed?"
        )
    else:
        yield Finding("device", "ok", str(chosen))


def engines() -> Iterator[Finding]:
    """What runs networks on the processor; each is tried, because some are installed and do not work."""
    from .engines.selection import PACKAGES, EngineUnavailable, self_test

    working, missing, faults = [], [], []
    for name, package in PACKAGES.items():
        try:
            found = f"{name} ({package} {metadata.version(package)}{self_test(name)})"
        except metadata.PackageNotFoundError:
            continue
        except EngineUnavailable as error:
            missing.append(f"{name}: {error}")
        except Exception as error:  # of any kind: it is not ours
            faults.append(f"{name} does not work: {type(error).__name__}: {one_line(error)}")
        else:
            working.append(found)
    listed = ", ".join([*working, "torch"])
    if faults:
        yield Finding("engines", "note", listed, f"{'; '.join(faults)}: install it again")
    elif not working:
        yield Finding("engines", "note", listed, "pip install openvino makes networks several times as fast on a CPU")
    elif missing and sys.platform == "linux" and platform.machine() == "x86_64":
        yield Finding("engines", "note", listed, "; ".join(missing))
    else:
        yield Finding("engines", "ok", listed)


def encoders() -> Iterator[Finding]:
    """What videos can be written with; each encoder is opened, because some are there and do not work."""
    from .video import codecs
    from .video.encoders import DEFAULT_CODECS, can_open
    from .video.options import EncoderOptions

    working = {}
    for codec in codecs.CODECS:
        tried = codecs.available_encoders(codec)
        working[codec] = next((name for name in tried if can_open(name, EncoderOptions(), 64, 64)), None)
    found = ", ".join(f"{codec} ({name})" for codec, name in working.items() if name)
    missing = [codec for codec, name in working.items() if name is None]
    if not any(working[codec] for codec in DEFAULT_CODECS[".mp4"]):
        yield Finding("encoders", "fault", found or "none", "no .mp4 can be written: pip install --force-reinstall av")
    elif missing:
        yield Finding(
            "encoders", "note", found, f"not here: {', '.join(missing)}; other codecs are used in their place"
        )
    else:
        yield Finding("encoders", "ok", found)


def weights() -> Iterator[Finding]:
    """Whether a command without --weights finds any."""
    from . import weights as store

    try:
        embedded = [info.name for info in store.registry().values() if info.file]
        yield Finding("embedded weights", "ok" if embedded else "note", ", ".join(embedded) or "none")
        name = store.default_name()
        _, located = store.inspect(name)
        if located is None:
            advice = f"tinyhd weights info {name} says where its file is; then --weights FILE, or TINYHD_MODEL=FILE"
            yield Finding("default model", "note", f"{name}: not on this machine", advice)
        else:
            wrong = store.verify(name).state == "wrong hash"
            found = f"{name}: {located.path}{', damaged or altered' * wrong}"
            advice = "install tinyhd again, or tinyhd weights pull --force" if wrong else ""
            yield Finding("default model", "fault" if wrong else "ok", found, advice)
    except TinyhdError as error:
        yield Finding("default model", "fault", str(error), "tinyhd weights list shows what there is")


def folders() -> Iterator[Finding]:
    """Where tinyhd keeps things, and whether it may."""
    folder = settings.cache_folder()
    if folder.is_dir() and (problem := cache.trust_problem(folder)):
        yield Finding("cache", "note", f"{folder}: {problem}", "set TINYHD_CACHE to a folder of your own")
    elif can_write(folder):
        yield Finding("cache", "ok", str(folder))
    else:
        yield Finding("cache", "note", f"{folder}: is not writable", "set TINYHD_CACHE to a writable folder")
    from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE

    if HF_HUB_OFFLINE:
        yield Finding("Hub", "note", f"offline by HF_HUB_OFFLINE; downloads in {HF_HUB_CACHE}")
    elif can_write(Path(HF_HUB_CACHE)):
        yield Finding("Hub", "ok", f"downloads in {HF_HUB_CACHE}")
    else:
        yield Finding("Hub", "note", f"{HF_HUB_CACHE}: cannot be written", "set HF_HOME to a folder that can")


def can_write(folder: Path) -> bool:
    """Whether files can be made in a folder, which need not be there yet. Nothing is left behind."""
    while not folder.exists():
        if folder == folder.parent:
            return False
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def configuration() -> Iterator[Finding]:
    """Settings files and variables that have a say."""
    from .cli import commands
    from .commands.config_file import check

    try:
        places = settings.files()
        for path in places:
            check(path, settings.read(path), commands())
    except TinyhdError as error:
        yield Finding("settings", "fault", str(error), "mend the file, or remove it")
        return
    variables = sorted(name for name in os.environ if name.startswith("TINYHD_"))
    found = ", ".join([*map(str, places), *variables])
    yield Finding("settings", "ok", found or f"none ({settings.FILE_NAME} here or in {settings.user_folder()})")
    if sys.stdout.encoding and sys.stdout.encoding.lower().replace("-", "") not in ("utf8", "utf16"):
        yield Finding("terminal", "note", sys.stdout.encoding, "set PYTHONUTF8=1 to see all names as they are")
