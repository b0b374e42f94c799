"""A search on images, in a folder that it can be gone on with from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback
from safetensors.torch import save

from nas_ext.data import ImageData
from nas_ext.files import write_bytes
from nas_ext.interrupts import Interrupted, Interrupts, Stopped, interruptible
from nas_ext.manifest import accelerators, manifest
from nas_ext.oneshot import (
    DifferentiableStrategy,
    SampledStrategy,
    SearchCheckpoint,
    SearchExperiment,
    quiet,
)
from nas_ext.oneshot.checkpoints import position
from nas_ext.oneshot.resuming import CHECKPOINT
from nas_ext.results import SearchResult
from nas_ext.run_settings import RUN, differences, read_run, unfinished, write_run
from nas_ext.spaces import SPACES, create
from nas_ext.supernet_training import Training, described, evaluator

__all__ = ["WEIGHTS", "WEIGHTS_FORMAT", "check_task", "new_folder", "search_images"]

WEIGHTS = "supernet.safetensors"
"""The file of a run that holds the weights of the supernet as they were when it was ranked."""

WEIGHTS_FORMAT = "nas-ext/supernet-1"


def search_images(
    strategy: SampledStrategy | DifferentiableStrategy,
    space: str,
    data: ImageData,
    *,
    out: str | Path,
    training: Training,
    data_source: Mapping[str, Any],
    arguments: Mapping[str, Any] | None = None,
    resume: bool = False,
    checkpoint_minutes: float | None = 5.0,
    checkpoint_steps: int | None = None,
    say: Callable[[str], None] = lambda text: None,
    ended: Callable[[SampledStrategy | DifferentiableStrategy], None] = lambda strategy: None,
) -> SearchResult:
    """Search a registered space on images inside an NNI experiment, and save the result.

    `out` receives `search.json`, the supernet's weights and NNI's own files; it must not hold a
    search already. The seed of the strategy leads weights, data order and draws. `data_source` is
    how `load` finds the images again, and is stored with their digest.

    As long as it runs, `out` has `run.json` with all settings and a `checkpoint.ckpt`, written
    every so many minutes or steps and at the end of each phase. With `resume` the same call goes
    on from there, to the same bits on a processor; where there is no checkpoint yet it begins
    anew, and where the search has ended it returns its result. `say` is told which. `ended` is
    called with a strategy that has searched, before `search.json` says so: what it writes is there
    whenever that file is. Ctrl-C and SIGTERM let a step end and be saved, and raise
    `nas_ext.interrupts.Stopped`; a second one stops at once. Raises ValueError for settings that
    are not those of the folder.
    """
    check_task(space, "searched on labelled images")
    settings = _settings_of(strategy, space, data, training, data_source, arguments)
    folder, begun = _place(out, settings, resume, say)
    if resume and (folder / "search.json").exists():
        return SearchResult.load(folder)
    if isinstance(strategy, SampledStrategy):
        strategy.phases(training.steps)
    made_with = {"training": asdict(training)}
    made_by = manifest(seeds=[strategy.seed], data=data.digest, made_with=made_with)
    made_by["command"] = begun.get("command", made_by["command"])
    settings["command"] = made_by["command"]
    with quiet(), _stoppable(folder) as interrupts:
        checkpoints = SearchCheckpoint(
            folder,
            every_minutes=checkpoint_minutes,
            every_steps=checkpoint_steps,
            interrupts=interrupts,
        )
        callbacks = [_Begun(folder, settings), checkpoints]
        _train(strategy, space, data, training, arguments, folder, callbacks)
    _save_weights(strategy, folder)
    ended(strategy)
    batches = {"validation_batch_size": training.validation_batch_size}
    result = replace(
        strategy.result,
        data={**data_source, **described(data), **batches},
        manifest={**made_by, "accelerators": accelerators()},
    )
    result.save(folder / "search.json")
    checkpoints.path.unlink(missing_ok=True)
    return result


def _train(
    strategy: SampledStrategy | DifferentiableStrategy,
    space: str,
    data: ImageData,
    training: Training,
    arguments: Mapping[str, Any] | None,
    folder: Path,
    callbacks: Sequence[Callback],
) -> None:
    """Train and rank, from the folder's checkpoint where there is one."""
    torch.manual_seed(strategy.seed)
    given = {"num_classes": data.num_classes, "in_chs": data.in_chs, **(arguments or {})}
    model = create(space, **given)
    model.check_image_size(data.image_size)
    last = folder / CHECKPOINT
    run = evaluator(
        data,
        training,
        seed=strategy.seed,
        title=type(strategy).__name__,
        callbacks=callbacks,
        checkpoint=last if last.exists() else None,
    )
    experiment = SearchExperiment(model, run, strategy, out=folder)
    try:
        experiment.run()
    finally:
        experiment.stop()


@contextmanager
def _stoppable(folder: Path) -> Iterator[Interrupts]:
    """Say, when a signal ends the search, what is there and how to go on."""
    try:
        with interruptible() as interrupts:
            yield interrupts
    except Interrupted as stop:
        raise Stopped(_how_to_go_on(folder), stop.number) from None


class _Begun(Callback):
    """Leave the settings of a run in its folder when its training begins."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.folder = folder
        self.settings = settings

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        write_run(self.folder, self.settings)


def _settings_of(
    strategy: SampledStrategy | DifferentiableStrategy,
    space: str,
    data: ImageData,
    training: Training,
    data_source: Mapping[str, Any],
    arguments: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return what a run is begun with, as JSON values."""
    trained = asdict(training)
    del trained["progress"]
    settings = {
        "space": space,
        "arguments": dict(arguments or {}),
        "strategy": type(strategy).__name__,
        "settings": strategy.settings,
        "training": trained,
        "data": {**data_source, "digest": data.digest},
    }
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    return plain


def _place(
    out: str | Path, settings: Mapping[str, Any], resume: bool, say: Callable[[str], None]
) -> tuple[Path, dict[str, Any]]:
    """Return the folder of a run, and what it was begun with, if it was."""
    folder = Path(out)
    if not resume or not (folder / RUN).exists():
        return new_folder(out), {}
    begun = read_run(folder)
    if found := differences(begun, settings):
        raise ValueError(f"settings must be those of {folder / RUN} to go on: {'; '.join(found)}")
    if (folder / "search.json").exists():
        say(f"{folder}: the search has ended already")
    elif (folder / CHECKPOINT).exists():
        say(f"{folder}: going on from {position(folder / CHECKPOINT)}")
    else:
        say(f"{folder}: there is no checkpoint yet, beginning anew")
    return folder, begun


def _how_to_go_on(folder: Path) -> str:
    """Say what an interrupted search leaves, and what to type."""
    left = "it had no checkpoint yet"
    if (folder / CHECKPOINT).exists():
        left = f"its checkpoint is of {position(folder / CHECKPOINT)}"
    elif not (folder / RUN).exists():
        return f"the search in {folder} was stopped before it began"
    return f"stopped, {left}; go on with: nas-ext search --resume --out {folder}"


def check_task(space: str, purpose: str) -> None:
    """Raise ValueError for a registered space whose networks do not classify."""
    task = SPACES[space].task if space in SPACES else "classification"
    if task != "classification":
        raise ValueError(
            f"space {space!r} must be for classification to be {purpose}, it is for {task}: "
            "see nas_ext.segmentation"
        )


def _save_weights(strategy: SampledStrategy | DifferentiableStrategy, folder: Path) -> None:
    """Write the supernet's weights: what is no tensor is left out, what is shared comes twice."""
    state = strategy.supernet.state_dict()
    weights = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in state.items()
        if isinstance(tensor, torch.Tensor)
    }
    metadata = {"format": WEIGHTS_FORMAT, "strategy": type(strategy).__name__}
    write_bytes(folder / WEIGHTS, save(weights, metadata=metadata))


def new_folder(out: str | Path) -> Path:
    """Return the folder of a new run, made when missing.

    Raises ValueError when it holds a search, finished or not, or is no folder.
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"out must be a folder, got the file {folder}")
    if (folder / "search.json").exists():
        raise ValueError(f"out must not hold a search already, got {folder}")
    if unfinished(folder):
        raise ValueError(
            f"out must not hold an unfinished search, got {folder}: go on with it by "
            "`nas-ext search --resume` (resume=True), or remove the folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return folder
