"""Version of the package. Imports no other module of it, so that every module can use it."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("tinyhd")
except PackageNotFoundError:  # a source checkout that is not installed
    __version__ = "0+unknown"
