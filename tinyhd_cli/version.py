"""The version of the package. Imports nothing of it, so that every module may use it."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("tinyhd")
except PackageNotFoundError:  # a source checkout that is not installed
    __version__ = "0+unknown"
