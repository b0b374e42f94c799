"""The examples run, and the README's example is real."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))


def run_python(arguments: list[str], home: Path) -> str:
    """Run Python in another folder with another home, and return what it printed."""
    environment = {**os.environ, "HOME": str(home), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=home, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_fast(name: str, tmp_path: Path) -> None:
    assert run_python([str(ROOT / "examples" / name), "--fast"], tmp_path)


def test_the_example_of_the_readme_prints_three_samples_best_first(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "readme.py").write_text(code)
    printed = run_python([str(tmp_path / "readme.py")], tmp_path)
    samples = [line for line in printed.splitlines() if line.startswith("[{")]
    assert len(samples) == 1
    assert samples[0].count("'pooling'") == 3
