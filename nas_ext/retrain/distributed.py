"""Several processes that train one network, each on its share of every batch."""

from __future__ import annotations

import atexit
import inspect
import os
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

Value = TypeVar("Value")


@dataclass(frozen=True)
class Ranks:
    """Say which of how many processes this one is, and speak with the others.

    Every method is to be called by all of them. Alone, they return what they are given.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Say whether this is the process that writes files and reports."""
        return self.rank == 0

    def gathered(self, value: Value) -> list[Value]:
        """Return the values of all processes, by rank."""
        if self.count == 1:
            return [value]
        values = [value] * self.count
        distributed.all_gather_object(values, value)
        return values

    def from_first(self, value: Value) -> Value:
        """Return the first process's value."""
        if self.count == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, src=0)
        return values[0]

    def summed(self, value: Tensor) -> Tensor:
        """Return the sum over the processes; `value` itself is changed."""
        if self.count > 1:
            distributed.all_reduce(value)
        return value

    def parallel(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Return a network that averages its gradients over the processes in backward passes."""
        if self.count == 1:
            return model
        places = [device] if device.type == "cuda" else None
        known = inspect.signature(DistributedDataParallel).parameters
        name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        separate: dict[str, Any] = {name: False}  # the older name warns where there is the newer
        return DistributedDataParallel(model, device_ids=places, **separate)

    def average_buffers(self, model: nn.Module) -> None:
        """Give running statistics, which every process keeps of its own share, their mean."""
        if self.count == 1:
            return
        for buffer in model.buffers():
            if buffer.is_floating_point():
                distributed.all_reduce(buffer)
                buffer /= self.count


def joined(device: torch.device) -> tuple[Ranks, torch.device]:
    """Join the processes that torchrun, or whoever set up the process group, has started.

    Gives this process's rank and its device: of several GPUs, the one of its local rank. Without
    such a launch (`WORLD_SIZE` is 1 or not set, no process group) this process is alone. Where
    there is no group yet it makes one (NCCL for GPUs, else gloo), which stays until the process
    ends: torchrun's processes meet once, a second group would find the first one's addresses.
    """
    ready = distributed.is_available() and distributed.is_initialized()
    count = distributed.get_world_size() if ready else int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Ranks(), device
    if device.type == "cuda":
        if device.index is None:
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)  # where NCCL puts what is gathered
    if not ready:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(_leave)
    return Ranks(distributed.get_rank(), distributed.get_world_size()), device


def _leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()
