"""Search neural architectures with learned trees, as strategies for NNI."""

from importlib.metadata import version

__version__ = version("nas-ext")
