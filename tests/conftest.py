"""Give every test one thread, and run the core's tests without torch and NNI where asked."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

HEAVY = ("lightning", "nni", "pytorch_lightning", "timm", "torch", "torchmetrics", "torchvision")

# Before anything imports torch: sums of floats depend on the number of threads. Processes that
# tests start inherit it.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"


class Masked(MetaPathFinder):
    """Refuse the heavy libraries, as if they were not installed.

    A finder, not `sys.modules[name] = None`: SciPy takes any entry there for the library itself.
    """

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Raise for the heavy libraries and leave the others to the next finder."""
        if fullname.partition(".")[0] in HEAVY:
            raise ModuleNotFoundError(f"{fullname} is masked: the core must not need it")
        return None


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--core`."""
    parser.addoption(
        "--core",
        action="store_true",
        help="mask torch, NNI, Lightning and timm: pytest --core tests/core",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Mask the heavy libraries before any test module is imported."""
    if config.getoption("--core"):
        loaded = sorted(set(HEAVY) & set(sys.modules))
        if loaded:
            raise pytest.UsageError(f"--core must come before the import of {loaded}")
        sys.meta_path.insert(0, Masked())


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Undo what another test, or a library it imported, did to torch's number of threads."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
