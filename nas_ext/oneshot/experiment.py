"""NNI's experiment, with everything it writes in one folder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from nas_ext.nni import ModelSpace, NasExperiment, NasExperimentConfig

__all__ = ["SearchExperiment"]


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

    def _start_without_nni_manager(self) -> None:
        self._manifest().add_experiment(
            self.id,
            "N/A",
            int(time.time() * 1000),
            "N/A",
            self.config.experiment_name,
            "N/A",
            status="RUNNING",
            logDir=str(self._folder),
        )

    def _stop_without_nni_manager(self) -> None:
        manifest = self._manifest()
        manifest.update_experiment(self.id, "status", "STOPPED")
        manifest.update_experiment(self.id, "endTime", int(time.time() * 1000))

    def _manifest(self) -> Any:
        from nni.tools.nnictl.config_utils import Experiments

        return Experiments(home_dir=str(self._folder))


def _check_filelock() -> None:
    """Raise RuntimeError for filelock 3.12 or newer: NNI 3.0 then waits for its lock for ever."""
    from importlib.metadata import version

    found = version("filelock")
    if tuple(int(part) for part in found.split(".")[:2]) >= (3, 12):
        raise RuntimeError(f"filelock must be older than 3.12 for NNI experiments, got {found}")
