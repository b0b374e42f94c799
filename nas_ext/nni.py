"""What is taken from NNI, imported in the one order and silence that works.

`nni.nas.strategy` comes before anything under `nni.nas.oneshot`: the other order leaves stand-ins
where NNI's own strategies were. Two warnings of NNI about classes that torch gained later are
dropped; they say nothing about a user's code. And NNI writes a module of its own into
site-packages when it is first imported with a version of torch: processes that start together
would read it half written, so the first import holds a lock.
"""

from __future__ import annotations

import getpass
import hashlib
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock


@contextmanager
def _alone_at_first() -> Iterator[None]:
    """Hold a lock, unless NNI's generated module is as it was when an import had succeeded."""
    spec = find_spec("nni")
    if spec is None or spec.origin is None:
        raise ImportError("nas-ext needs nni, which is not installed")
    generated = Path(spec.origin).parent / "nas" / "nn" / "pytorch" / "_layers.py"
    torch = import_module("torch").__version__
    key = hashlib.sha256(f"{getpass.getuser()} {generated}".encode()).hexdigest()[:16]
    stamp = Path(tempfile.gettempdir()) / f"nas-ext-nni-{key}.stamp"

    def state() -> str:
        if not generated.exists():
            return "nothing"
        found = generated.stat()
        return f"{torch} {found.st_size} {found.st_mtime_ns}"

    if stamp.exists() and stamp.read_text(encoding="utf-8") == state():
        yield
        return
    with FileLock(stamp.with_suffix(".lock")):
        yield
        stamp.write_text(state(), encoding="utf-8")


with _alone_at_first(), warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=".*is found to be not a nn.Module.*")
    import_module("nni.nas.strategy")

from nni.mutable import Categorical
from nni.nas.evaluator.pytorch.lightning import Lightning, LightningModule, Trainer
from nni.nas.experiment import NasExperiment, NasExperimentConfig
from nni.nas.nn.pytorch import ModelSpace, MutableModule
from nni.nas.oneshot.pytorch.base_lightning import BaseOneShotLightningModule
from nni.nas.oneshot.pytorch.strategy import OneShotStrategy
from nni.nas.oneshot.pytorch.supermodule.base import BaseSuperNetModule
from nni.nas.space import RawFormatModelSpace, current_model
from nni.nas.strategy import DARTS, RandomOneShot

__all__ = [
    "DARTS",
    "BaseOneShotLightningModule",
    "BaseSuperNetModule",
    "Categorical",
    "Lightning",
    "LightningModule",
    "ModelSpace",
    "MutableModule",
    "NasExperiment",
    "NasExperimentConfig",
    "OneShotStrategy",
    "RandomOneShot",
    "RawFormatModelSpace",
    "Trainer",
    "current_model",
]


class _Once(logging.Filter):
    """Let each text through one time: NNI repeats some for every copy of a configuration."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        new = text not in self._seen
        self._seen.add(text)
        return new


logging.getLogger("nni.nas.experiment.config.experiment").addFilter(_Once())
