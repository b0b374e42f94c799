"""NNI's first import, which writes a module into site-packages, in several processes at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path


def test_processes_that_start_together_import_a_fresh_nni(tmp_path: Path) -> None:
    spec = find_spec("nni")
    assert spec is not None
    assert spec.origin is not None
    fresh = tmp_path / "site" / "nni"
    shutil.copytree(Path(spec.origin).parent, fresh)
    generated = fresh / "nas" / "nn" / "pytorch" / "_layers.py"
    generated.unlink()
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path / "site"),
        "TMPDIR": str(tmp_path),
        "OMP_NUM_THREADS": "1",
    }
    script = "import nas_ext.nni, nni; print(nni.__file__)"
    command = [sys.executable, "-c", script]
    running = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    printed = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert all(str(fresh) in line for line in printed)
    compile(generated.read_text(), generated, "exec")
    assert len(list(tmp_path.glob("nas-ext-nni-*.stamp"))) == 1
