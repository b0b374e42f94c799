"""A lock around the first import of NNI, which then writes a module into site-packages.

NNI generates wrappers of torch's layers when it is first imported with a version of torch.
Processes that start together would read that module half written.
"""

from __future__ import annotations

import getpass
import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock

__all__ = ["alone_at_first"]


@contextmanager
def alone_at_first() -> Iterator[None]:
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
