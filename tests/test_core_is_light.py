"""The core's tests must pass where torch, NNI, Lightning and timm cannot be imported."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def pytest_core(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "--core", "-q", "-p", "no:cacheprovider"]
    return subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True)


def test_the_tests_of_the_core_pass_without_torch_and_nni() -> None:
    run = pytest_core("tests/core")
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"^\d+ passed", run.stdout, re.MULTILINE), run.stdout


def test_a_test_that_imports_torch_fails_when_it_is_masked(tmp_path: Path) -> None:
    source = "def test_import():\n    import torch\n"
    (tmp_path / "test_heavy.py").write_text(source, encoding="utf-8")
    # The conftest is named: the file lies outside its folder.
    run = pytest_core("-p", "tests.conftest", str(tmp_path / "test_heavy.py"))
    assert run.returncode == 1, run.stdout + run.stderr
    assert "torch is masked" in run.stdout
