"""Checks of the installation for ``tinyhd doctor``: what is installed, what is missing, and how to fix it."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from . import cache, settings
from .errors import TinyhdError, one_line
from .system import available_cores, engine_threads
from .version import __version__

Status = Literal["ok", "note", "fault"]

CheckSettings = Callable[[Path, Mapping[str, Any]], None]
"""Raises ``UsageError`` if the tables of a settings file contain an unknown name."""


@dataclass(frozen=True)
class Finding:
    """Result of one check."""

    what: str
    status: Status
    """``note``: tinyhd works, but something could be better; ``fault``: something does not work."""
    found: str
    advice: str = ""
    """How to fix it, in one line; empty if nothing needs to be done."""


def examine(check_settings: CheckSettings) -> list[Finding]:
    """Run all checks. A check that fails becomes a finding."""
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "versions": check_versions,
        "devices": check_devices,
        "engines": check_engines,
        "families": check_families,
        "encoders": check_encoders,
        "weights": check_weights,
        "folders": check_folders,
        "settings": partial(check_configuration, check_settings),
    }
    findings: list[Finding] = []
    for name, check in checks.items():
        try:
            findings += check()
        except Exception as error:  # of any type: a broken package must not hide the other findings
            line = f"{type(error).__name__}: {one_line(error)}"
            findings.append(Finding(name, "fault", line, "reinstall tinyhd: pip install --force-reinstall"))
    return findings


def check_versions() -> Iterator[Finding]:
    """Report the versions of tinyhd, Python and the most important packages."""
    yield Finding("tinyhd", "ok", f"{__version__} in {Path(__file__).resolve().parent}")
    yield Finding("python", "ok", f"{platform.python_version()}, {platform.system()} {platform.machine()}")
    import av
    import cv2

    names = ("torch", "av", "numpy", "huggingface-hub", "safetensors")
    packages = ", ".join(f"{name} {installed_version(name)}" for name in names)
    yield Finding("packages", "ok", f"{packages}, OpenCV {cv2.__version__}")
    yield Finding("FFmpeg", "ok", f"{av.ffmpeg_version_info} (inside the av package)")


def installed_version(package: str) -> str:
    """Return the installed version of a package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def check_devices() -> Iterator[Finding]:
    """Report the CPU threads and the device that ``--device auto`` selects."""
    from .inference.devices import pick_device

    cores, threads = available_cores(), engine_threads()
    limited = threads < cores and "OMP_NUM_THREADS" in os.environ
    advice = f"OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']} limits the number of threads" if limited else ""
    yield Finding("CPU", "note" if limited else "ok", f"{cores} cores, {threads} threads", advice)
    try:
        import torch
    except Exception as error:  # of any type: a broken installation may raise anything
        found = f"cpu; PyTorch cannot be imported: {type(error).__name__}: {one_line(error)}"
        advice = "only the embedded weights can be used, for prediction on the CPU; all else needs pip install torch"
        yield Finding("device", "note", found, advice)
        return
    chosen = pick_device("auto")
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
        yield Finding("device", "ok", f"{chosen} ({names})")
    elif torch.version.cuda:
        advice = "PyTorch is a CUDA build but finds no GPU; check that the driver is installed"
        yield Finding("device", "note", str(chosen), advice)
    else:
        yield Finding("device", "ok", str(chosen))


def check_engines() -> Iterator[Finding]:
    """Run each CPU engine on a small input, because an installed engine may not work."""
    from .engines.base import PACKAGES, EngineUnavailable
    from .engines.self_test import self_test

    working, missing, faults = [], [], []
    for name, package in PACKAGES.items():
        try:
            found = f"{name} ({package} {metadata.version(package)}{self_test(name)})"
        except metadata.PackageNotFoundError:
            continue
        except EngineUnavailable as error:
            missing.append(f"{name}: {error}")
        except Exception as error:  # of any type: the engine belongs to another package
            faults.append(f"{name} does not work: {type(error).__name__}: {one_line(error)}")
        else:
            working.append(found)
    listed = ", ".join([*working, "torch"])
    if faults:
        yield Finding("engines", "note", listed, f"{'; '.join(faults)}; reinstall it")
    elif not working:
        yield Finding("engines", "note", listed, "pip install openvino runs networks several times as fast on a CPU")
    elif missing and sys.platform == "linux" and platform.machine() == "x86_64":
        yield Finding("engines", "note", listed, "; ".join(missing))
    else:
        yield Finding("engines", "ok", listed)


def check_families() -> Iterator[Finding]:
    """Report the model families of tinyhd and of plugins, and plugins that cannot be used."""
    from .models import registry

    found = list(registry.built_in())
    found += [f"{plugin.name} ({plugin.package})" for plugin in registry.plugins() if plugin.family]
    faults = [
        f"{plugin.name} ({plugin.package}) is ignored: {plugin.problem}"
        for plugin in registry.plugins()
        if not plugin.family
    ]
    advice = f"{'; '.join(faults)}; update or uninstall the package" if faults else ""
    yield Finding("families", "note" if faults else "ok", ", ".join(found), advice)


def check_encoders() -> Iterator[Finding]:
    """Open an encoder for each codec, because an encoder that FFmpeg lists may not work."""
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
        advice = ".mp4 files cannot be written: pip install --force-reinstall av"
        yield Finding("encoders", "fault", found or "none", advice)
    elif missing:
        advice = f"not available: {', '.join(missing)}; tinyhd uses other codecs instead"
        yield Finding("encoders", "note", found, advice)
    else:
        yield Finding("encoders", "ok", found)


def check_weights() -> Iterator[Finding]:
    """Report the embedded weights, and whether the default weights are present and intact."""
    from . import weights

    try:
        embedded = [info.name for info in weights.registry().values() if info.file]
        yield Finding("embedded weights", "ok" if embedded else "note", ", ".join(embedded) or "none")
        name = weights.default_name()
        _, located = weights.inspect(name)
        if located is None:
            advice = (
                f"tinyhd weights info {name} shows the origin of the file; then --weights FILE or TINYHD_MODEL=FILE"
            )
            yield Finding("default model", "note", f"{name}: not on this machine", advice)
        else:
            wrong = weights.verify(name).state == "wrong hash"
            found = f"{name}: {located.path}{', damaged or altered' * wrong}"
            advice = "reinstall tinyhd, or run tinyhd weights pull --force" if wrong else ""
            yield Finding("default model", "fault" if wrong else "ok", found, advice)
    except TinyhdError as error:
        yield Finding("default model", "fault", str(error), "tinyhd weights list shows the available weights")


def check_folders() -> Iterator[Finding]:
    """Report whether the folders for caches and downloads can be written."""
    folder = settings.cache_folder()
    if folder.is_dir() and (problem := cache.trust_problem(folder)):
        yield Finding("cache", "note", f"{folder}: {problem}", "set TINYHD_CACHE to a folder of your own")
    elif can_write(folder):
        yield Finding("cache", "ok", str(folder))
    else:
        yield Finding("cache", "note", f"{folder}: is not writable", "set TINYHD_CACHE to a writable folder")
    from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE

    if HF_HUB_OFFLINE:
        yield Finding("Hub", "note", f"offline, because HF_HUB_OFFLINE is set; downloads are in {HF_HUB_CACHE}")
    elif can_write(Path(HF_HUB_CACHE)):
        yield Finding("Hub", "ok", f"downloads go to {HF_HUB_CACHE}")
    else:
        yield Finding("Hub", "note", f"{HF_HUB_CACHE}: is not writable", "set HF_HOME to a writable folder")


def can_write(folder: Path) -> bool:
    """Return whether files can be created in a folder, which need not exist. Leaves no files behind."""
    while not folder.exists():
        if folder == folder.parent:
            return False
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def check_configuration(check_settings: CheckSettings) -> Iterator[Finding]:
    """Report the settings files and environment variables in use, and errors in the files."""
    try:
        files = settings.files()
        for path in files:
            check_settings(path, settings.read(path))
    except TinyhdError as error:
        yield Finding("settings", "fault", str(error), "fix the file, or remove it")
        return
    variables = sorted(name for name in os.environ if name.startswith("TINYHD_"))
    found = ", ".join([*map(str, files), *variables])
    yield Finding("settings", "ok", found or f"none ({settings.FILE_NAME} here or in {settings.user_folder()})")
    if sys.stdout.encoding and sys.stdout.encoding.lower().replace("-", "") not in ("utf8", "utf16"):
        yield Finding("terminal", "note", sys.stdout.encoding, "set PYTHONUTF8=1 to print all names without escapes")
