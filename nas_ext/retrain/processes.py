"""One new process for each device, joined into a group, and what they report to this one."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol, TypeVar

import torch
from torch import distributed
from torch.multiprocessing.spawn import ProcessContext, ProcessException, start_processes

from nas_ext.workers import WorkerDied, end_with_parent

Report = Callable[[Any], None]
Result = TypeVar("Result", covariant=True)

_PATIENCE = 0.05  # seconds between two looks for a report


class Work(Protocol[Result]):
    """What each process does: train on its device, and report from the first one."""

    def __call__(self, device: torch.device, report: Report) -> Result: ...


def on_devices(work: Work[Result], devices: Sequence[torch.device], report: Report) -> Result:
    """Run `work` in one process for each device and return what the first one returns.

    The processes form a group (NCCL where all devices are GPUs, else gloo, on this machine
    alone). What the first one reports is handed to `report` here, and it waits until that has
    returned; an error there, or in any process, ends them all and is raised. CPU processes share
    this one's number of threads.

    Raises ValueError when `work` cannot be sent to other processes, WorkerDied when one of them
    is killed.
    """
    try:
        pickle.dumps(work)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            "build must be a function of a module, or functools.partial of one, to train on "
            f"several devices: {error}"
        ) from error
    threads = max(1, torch.get_num_threads() // len(devices))
    spawn = multiprocessing.get_context("spawn")
    reports, answers = spawn.SimpleQueue(), spawn.SimpleQueue()
    with TemporaryDirectory(prefix="nas-ext-") as name:
        folder = Path(name)
        arguments = (work, tuple(devices), threads, folder, reports, answers)
        started = start_processes(  # type: ignore[no-untyped-call]  # torch leaves it untyped
            _begin, arguments, nprocs=len(devices), join=False, start_method="spawn"
        )
        if started is None:
            raise RuntimeError("the processes were not started")
        try:
            _listen(started, reports, answers, report)
        except ProcessException as error:
            if (failed := folder / "error").exists():
                raise pickle.loads(failed.read_bytes()) from error
            raise WorkerDied(
                f"one of the {len(devices)} processes that train together died: {error}. The same "
                "call again goes on from the last epoch that was saved"
            ) from error
        finally:
            for process in filter(None, started.processes):
                if process.is_alive():
                    process.terminate()
                process.join()
        result: Result = pickle.loads((folder / "result").read_bytes())
    return result


def _listen(started: ProcessContext, reports: Any, answers: Any, report: Report) -> None:
    ended = False
    while not ended:
        ended = started.join(timeout=_PATIENCE)
        while not reports.empty():
            report(reports.get())
            answers.put(None)


def _begin(
    rank: int,
    work: Work[Any],
    devices: tuple[torch.device, ...],
    threads: int,
    folder: Path,
    reports: Any,
    answers: Any,
) -> None:
    """Be one of the processes; results and errors go through files, whole or not at all."""

    def tell(value: Any) -> None:
        reports.put(value)
        answers.get()

    end_with_parent()
    torch.set_num_threads(threads)
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # nobody else is to connect
    device = devices[rank]
    gpus = all(device.type == "cuda" for device in devices)
    if gpus:
        torch.cuda.set_device(device)
    distributed.init_process_group(
        "nccl" if gpus else "gloo",
        init_method=f"file://{folder / 'meeting'}",
        rank=rank,
        world_size=len(devices),
    )
    try:
        result = work(device, tell)
        if rank == 0:
            (folder / "result").write_bytes(pickle.dumps(result))
    except Exception as error:
        _leave(folder / f"error{rank}", folder / "error", error)
        raise
    finally:
        distributed.destroy_process_group()


def _leave(draft: Path, target: Path, error: Exception) -> None:
    draft.write_bytes(pickle.dumps(error))
    if not target.exists():
        draft.rename(target)
