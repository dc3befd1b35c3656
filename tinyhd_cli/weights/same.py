"""Check on another machine that weights are those of this one."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import WeightsError
from .location import NameOrPath
from .store import open_file


@dataclass(frozen=True)
class SameWeights:
    """Checks that a worker has the weights of the client. Picklable."""

    source: NameOrPath
    """The name or the file of the weights."""
    sha256: str
    """Digest of the client's weights."""

    @classmethod
    def of(cls, source: NameOrPath) -> SameWeights:
        """Return the check for weights of this machine; ``WeightsError`` if they cannot be read."""
        return cls(source, open_file(source).sha256)

    def __call__(self) -> None:
        """Raise ``WeightsError`` if the worker has none or other ones."""
        found = open_file(self.source).sha256
        if found != self.sha256:
            have = f"sha256 {found[:12]}..., but this client's have {self.sha256[:12]}..."
            raise WeightsError(f"the weights {self.source} have {have}; give workers the same file")
