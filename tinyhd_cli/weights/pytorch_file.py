"""Load PyTorch files without running their code or trusting their sizes."""

from __future__ import annotations

import io
import pickletools
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import WeightsError
from ..untrusted import printable

MAX_OPCODES = 500_000
"""Maximum opcodes of a pickle. Each may create an object of some 100 bytes; HD2S with its optimizer has 30,000."""

MAX_PICKLE = 64 << 20
"""Maximum size of the pickle in a file that is too large to be read as a whole."""


class Placeholder:
    """A placeholder for an object that is not a tensor. It stores its arguments and does nothing.

    It also replaces NumPy's unpickling, which trusts the file; only the bytes of arrays are used.
    """

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


NUMPY_TYPES = "bool bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 str_ bytes_".split()
PATHS = "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath".split()
HARMLESS = (
    *(
        f"numpy.{core}.{name}"
        for core in ("core", "_core")
        for name in ("multiarray.scalar", "multiarray._reconstruct")
    ),
    *("numpy.dtype", "numpy.ndarray", *(f"numpy.{name}" for name in NUMPY_TYPES)),
    *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in PATHS),
    *("argparse.Namespace", "types.SimpleNamespace", "datetime.datetime", "datetime.date", "datetime.timedelta"),
)
"""Types in checkpoints besides tensors and plain values. Each is replaced by a placeholder with its name."""


def placeholder(path: str) -> type[Placeholder]:
    """Return a placeholder class that PyTorch accepts as the class with this path."""
    module, _, name = path.rpartition(".")
    return type(name, (Placeholder,), {"__module__": module, "__qualname__": name})


PLACEHOLDERS: list[Any] = [placeholder(path) for path in HARMLESS]


def unpickle(data: bytes) -> object:
    """Return the content of a PyTorch file that contains only tensors, plain values and ``HARMLESS`` types.

    Raises:
        WeightsError: it is damaged, would run code, or could need much more memory than its size.
    """
    import torch

    try:
        check_container(data)
        with warnings.catch_warnings(), torch.serialization.safe_globals(PLACEHOLDERS):
            warnings.simplefilter("ignore")  # about pickle protocols and TorchScript; real problems raise errors
            checkpoint: object = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
            return checkpoint
    except WeightsError:
        raise
    except Exception as error:  # a damaged pickle can raise any exception
        if match := re.search(r"GLOBAL ([\w.]+)", str(error)):
            advice = "save only the network's state_dict()"
            problem = f"refused: it contains more than tensors, and loading {match[1]} would run code; {advice}"
            raise WeightsError(problem) from error
        if "Unsupported operand" in str(error):
            advice = "save it with the default protocol of torch.save"
            raise WeightsError(f"PyTorch cannot read its pickle protocol without running code; {advice}") from error
        raise WeightsError("damaged, or not a PyTorch file of plain tensors") from error


def shapes_of(content: object) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors in nested dicts by name, those of inner dicts with the keys before them."""
    found: dict[str, tuple[int, ...]] = {}
    for key, value in content.items() if isinstance(content, Mapping) else ():
        if isinstance(value, Mapping):
            found |= {f"{key}.{name}": shape for name, shape in shapes_of(value).items()}
        elif shape := getattr(value, "shape", None):
            found[str(key)] = tuple(shape)
    return found


def shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors in a PyTorch file of any size without reading them; empty if that fails."""
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [entry for entry in archive.infolist() if entry.filename.endswith(".pkl")]
            if any(entry.compress_type != zipfile.ZIP_STORED or entry.file_size > MAX_PICKLE for entry in pickles):
                return {}
            for entry in pickles:
                check_pickles(io.BytesIO(archive.read(entry)), 1)
        with warnings.catch_warnings(), torch.serialization.safe_globals(PLACEHOLDERS):
            warnings.simplefilter("ignore")
            return shapes_of(torch.load(path, weights_only=True, map_location="meta", mmap=True))
    except Exception:  # a damaged file can raise anything, and is refused anyway
        return {}


def check_container(data: bytes) -> None:
    """Check that loading a file cannot need much more memory than its size.

    Raises:
        WeightsError: it could, or the file is damaged.
        ValueError: the file contains no pickle.
    """
    if data[:4] != b"PK\3\4":  # the format before PyTorch 1.6: five pickles, then the data
        if data[8:10] == b'{"':
            raise WeightsError("contains safetensors data: rename it to end in .safetensors")
        if data[257:262] == b"ustar":
            raise WeightsError("a checkpoint in the tar format of PyTorch 0.1; save it again with a later version")
        stream = io.BytesIO(data)
        check_pickles(stream, 5)
        return
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        if any(entry.filename.endswith("/constants.pkl") for entry in entries):
            raise WeightsError("a TorchScript file; save the network's state_dict() instead")
        # PyTorch stores tensors uncompressed; compressed ones could expand a thousandfold.
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise WeightsError("refused: its content is compressed, which PyTorch never does")
        if sum(entry.file_size for entry in entries) > len(data):
            raise WeightsError("refused: it claims to contain more data than its size")
        if broken := archive.testzip():  # torch.load ignores checksums
            raise WeightsError(f"damaged: the checksum of {printable(broken)} is wrong")
        for entry in entries:
            if entry.filename.endswith(".pkl"):
                check_pickles(io.BytesIO(archive.read(entry)), 1)


def check_pickles(stream: io.BytesIO, count: int) -> None:
    """Scan ``count`` pickles without creating their objects.

    Raises:
        WeightsError: they have too many opcodes.
    """
    steps = 0
    for _ in range(count):
        for _ in pickletools.genops(stream):
            steps += 1
            if steps > MAX_OPCODES:
                raise WeightsError(f"refused: its pickle has more than {MAX_OPCODES:,} steps")
