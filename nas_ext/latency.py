"""How long a network takes on this device, measured."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nas_ext.architecture import Architecture
from nas_ext.field_types import check_fields, clause
from nas_ext.files import check_format, read_json, write_json
from nas_ext.results import SearchResult
from nas_ext.spaces import Space, create

__all__ = [
    "FORMAT",
    "LatencyTable",
    "Measurement",
    "Timing",
    "latencies",
    "latency_table",
    "measure",
]

FORMAT = "nas-ext/latency-1"


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Say how a latency is measured: so many forward passes of one batch, after a warm-up.

    `device` is one of torch's; `threads` are those of torch on a CPU, None leaves them as they
    are. Defaults are ours.
    """

    batch_size: int = 1
    warm_up: int = 10
    repeats: int = 50
    device: str = "cpu"
    threads: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("batch_size", "repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.warm_up < 0:
            raise ValueError(f"warm_up must not be negative, got {self.warm_up}")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads must be at least 1, got {self.threads}")


@dataclass(frozen=True)
class Timing:
    """Hold the seconds of one batch: median, and the quarters of the passes below and above."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, repr=False)
class LatencyTable:
    """Look up the seconds of a batch by architecture: a cost for strategies and fronts.

    `conditions` say on what and how they were measured; numbers of different conditions do not
    compare.
    """

    conditions: Mapping[str, Any]
    timings: Mapping[Architecture, Timing]

    def __call__(self, architecture: Architecture) -> float:
        """Return the median; ValueError for an architecture that was not measured."""
        if architecture not in self.timings:
            raise ValueError(f"architecture must have been measured, got {architecture}")
        return self.timings[architecture].median

    def __repr__(self) -> str:
        return f"LatencyTable({len(self.timings)} on {self.conditions.get('name')})"

    def to_json(self) -> dict[str, Any]:
        """Return conditions and timings as JSON values."""
        rows = [{"architecture": list(a), **asdict(t)} for a, t in self.timings.items()]
        return {"format": FORMAT, "conditions": dict(self.conditions), "timings": rows}

    def save(self, path: str | Path) -> None:
        """Write the table as JSON, whole or not at all."""
        write_json(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> LatencyTable:
        """Read a table; ValueError, with the file's name, for what is none."""
        values = check_format(read_json(path), FORMAT, path)
        try:
            timings = {
                tuple(row["architecture"]): Timing(row["median"], row["low"], row["high"])
                for row in values["timings"]
            }
            made = cls(dict(values["conditions"]), timings)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} must be a whole latency table, got {error!r}") from error
        if len(timings) < len(values["timings"]):
            raise ValueError(f"timings of {path} must have every architecture once, one is double")
        for architecture, timing in timings.items():
            _check_timing(architecture, timing, path)
        return made


def _check_timing(architecture: Architecture, timing: Timing, path: str | Path) -> None:
    """Raise ValueError, naming the file, for what is no architecture or took no time."""
    known = clause(list(architecture))
    if not all(type(option) is int and option >= 0 for option in architecture):
        raise ValueError(f"architectures of {path} must be places of options, got {known}")
    check_fields(timing, of=f" of {known} in {path}")
    for name, seconds in vars(timing).items():
        if seconds < 0:
            raise ValueError(f"{name} of {known} in {path} must not be negative, got {seconds}")


def measure(network: nn.Module, size: Sequence[int], *, how: Measurement | None = None) -> Timing:
    """Return what a batch of inputs of `size`, such as (C, H, W), takes the network.

    In evaluation mode without gradients, on random inputs that move no global generator. The
    network comes back in its mode and on its device, torch with its number of threads. Weights
    do not matter. The clock stops once the device is done.
    """
    how = how or Measurement()
    modes = [(module, module.training) for module in network.modules()]
    home = next((tensor.device for tensor in network.parameters()), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    device = torch.device(how.device)
    inputs = torch.rand(how.batch_size, *size, generator=generator).to(device)
    try:
        network.to(device).eval()
        with _threads(how.threads), torch.inference_mode():
            for _ in range(how.warm_up):
                network(inputs)
            seconds = [_timed(network, inputs, device) for _ in range(how.repeats)]
    finally:
        network.to(home)
        for module, training in modes:
            module.training = training
    return _timing(seconds)


def latencies(
    result: SearchResult,
    architectures: Iterable[Architecture] | None = None,
    *,
    how: Measurement | None = None,
) -> LatencyTable:
    """Measure plain networks of a search's space, those of its ranking unless given.

    Inputs have the size of the images that were searched. Raises ValueError for a result whose
    space is not registered, or that does not know that size.
    """
    how = how or Measurement()
    arguments = result.space.get("arguments")
    if not arguments:
        raise ValueError(
            f"space {result.space.get('name')!r} must be a registered one to be measured"
        )
    size = result.data.get("size")
    if not size:
        raise ValueError("data of the result must say the size of its images, it does not")
    wanted = [r.architecture for r in result.ranking] if architectures is None else architectures
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn and not used
        model: Space = create(**arguments)
    if len(size) != 3 or size[0] != arguments["in_chs"]:
        raise ValueError(
            f"size of the images must be the {arguments['in_chs']} channels of the space, height "
            f"and width, got {clause(size)}"
        )
    model.check_image_size((size[1], size[2]))
    return latency_table(model, wanted, size, how=how)


def latency_table(
    model: Space,
    architectures: Iterable[Architecture],
    size: Sequence[int],
    *,
    how: Measurement | None = None,
) -> LatencyTable:
    """Measure plain networks of a model space on inputs of `size`, (C, H, W), each once."""
    how = how or Measurement()
    with torch.random.fork_rng(devices=[]):
        timings = {
            a: measure(model.network(a), size, how=how) for a in dict.fromkeys(architectures)
        }
    return LatencyTable({**conditions(how), "size": list(size)}, timings)


def conditions(how: Measurement) -> dict[str, Any]:
    """Return what a latency depends on beside the network, as JSON values."""
    device = torch.device(how.device)
    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_gpu else _processor()
    threads = torch.get_num_threads() if how.threads is None else how.threads
    return {**asdict(how), "threads": threads, "name": name, "torch": torch.__version__}


def _processor() -> str:
    """Return the processor's name; Linux tells it in a file, and Python only its kind."""
    listed = Path("/proc/cpuinfo")
    if listed.is_file():
        for line in listed.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _timed(network: nn.Module, inputs: torch.Tensor, device: torch.device) -> float:
    _finish(device)
    began = time.perf_counter()
    network(inputs)
    _finish(device)
    return time.perf_counter() - began


def _finish(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _timing(seconds: Sequence[float]) -> Timing:
    if len(seconds) == 1:
        return Timing(seconds[0], seconds[0], seconds[0])
    low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return Timing(median, low, high)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)
