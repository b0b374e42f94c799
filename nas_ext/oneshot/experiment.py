"""NNI's experiment, with everything it writes in one folder."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from nas_ext.files import read_json, write_json
from nas_ext.nni import ModelSpace, NasExperiment, NasExperimentConfig

__all__ = ["SearchExperiment"]

_LINE = "[%(asctime)s] %(levelname)s (%(name)s) %(message)s"


class SearchExperiment(NasExperiment):  # type: ignore[misc]  # NNI has no types
    """A `NasExperiment` for one-shot strategies that leaves nothing outside `out`.

    Training runs in this process, no manager is started and no port opened. NNI's log, its
    checkpoints and its list of experiments lie in `out`/nni, not under the home folder.
    Of several processes that train one supernet, each has an experiment of its own in there.
    Raises RuntimeError with a filelock that NNI hangs on.
    """

    def __init__(
        self, model_space: ModelSpace, evaluator: Any, strategy: Any, *, out: str | Path
    ) -> None:
        _check_filelock()
        self._folder = Path(out).resolve() / "nni"
        if rank := getattr(getattr(evaluator, "trainer", None), "global_rank", 0):
            self._folder /= f"rank{rank}"
        self._folder.mkdir(parents=True, exist_ok=True)
        config: Any = NasExperimentConfig("sequential", "raw")
        config.experiment_working_directory = str(self._folder)
        super().__init__(model_space, evaluator, strategy, config)
        self._log: _Log | None = None

    def _start_logging(self, debug: bool) -> None:
        """Keep NNI's messages where it would, by a handler that a full disk does not upset."""
        file = self._folder / self.id / "log" / "experiment.log"
        file.parent.mkdir(parents=True, exist_ok=True)
        self._log = _Log(file, encoding="utf-8")
        self._log.setLevel(logging.DEBUG if debug else logging.INFO)
        self._log.setFormatter(logging.Formatter(_LINE))
        logging.getLogger("nni").addHandler(self._log)

    def _stop_logging(self) -> None:
        if self._log is None:
            return
        logging.getLogger("nni").removeHandler(self._log)
        with suppress(OSError):  # of a full disk: lines that were not written yet
            self._log.close()
        self._log = None

    def _start_without_nni_manager(self) -> None:
        entry = dict.fromkeys(("port", "platform", "endTime"), "N/A")
        self._list(
            id=self.id,
            status="RUNNING",
            startTime=int(time.time() * 1000),
            experimentName=self.config.experiment_name,
            logDir=str(self._folder),
            tag=["retiarii"],
            webuiUrl=[],
            pid=None,
            prefixUrl=None,
            **entry,
        )

    def _stop_without_nni_manager(self) -> None:
        self._list(status="STOPPED", endTime=int(time.time() * 1000))

    def _list(self, **entry: Any) -> None:
        """Put this experiment into the folder's list of them, in NNI's form.

        Not by NNI's own means, which tear the file when the disk is full, and wait for ever for
        a lock that a killed process left before the clock was set back. A list that cannot be
        read holds nothing that is needed, and begins anew.
        """
        file, known = self._folder / ".experiment", {}
        if file.exists():
            with suppress(ValueError):
                known = read_json(file)
        listed = known if isinstance(known, dict) else {}
        before = listed.get(self.id)
        listed[self.id] = {**(before if isinstance(before, dict) else {}), **entry}
        write_json(file, listed)


class _Log(logging.FileHandler):
    """NNI's log. What a full disk takes of it goes without a stack trace on stderr.

    The search says itself, in a line, that the disk is full.
    """

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def _check_filelock() -> None:
    """Raise RuntimeError for filelock 3.12 or newer: NNI 3.0 then waits for its lock for ever."""
    from importlib.metadata import version

    found = version("filelock")
    if tuple(int(part) for part in found.split(".")[:2]) >= (3, 12):
        raise RuntimeError(f"filelock must be older than 3.12 for NNI experiments, got {found}")
