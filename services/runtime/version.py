"""The version of the distribution, as it is installed."""

from importlib.metadata import version

VERSION = version("reelworks")
