"""NAS-Bench-Macro: 6,561 chains of eight layers on CIFAR-10, each trained alone three times."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from nas_ext.architecture import Architecture, Choice, SearchSpace
from nas_ext.benchmarks.table import Table, data_file
from nas_ext.files import read_json

__all__ = ["FILE", "NASBenchMacroSpace", "nasbench_macro_table"]

FILE = "nas-bench-macro_cifar10.json"
"""The published file; it comes from the repository xiusu/NAS-Bench-Macro (Apache-2.0)."""

OPTIONS = ("identity", "mb3_k3", "mb6_k5")
BLOCKS = {1: (3, 3), 2: (6, 5)}
"""Expansion and kernel of the inverted residual blocks, by option."""

STAGES = ((64, 2), (128, 3), (256, 3))
"""Width and number of layers of each stage; the first layer of each has stride 2."""

STEM, HEAD, CLASSES, IMAGE = 32, 1280, 10, 32


class NASBenchMacroSpace(SearchSpace):
    """List the chains of eight layers, each an identity or one of two inverted residual blocks.

    The code of an architecture has a digit a layer, first layer first: 0 identity, 1 expansion 3
    and kernel 3, 2 expansion 6 and kernel 5. The order is that of the codes. 6,561 encodings are
    3,969 networks: within a stage, past its first layer, an identity passes its input through,
    so its place does not matter. Source: Su et al. 2021, "Prioritized Architecture Sampling with
    Monte-Carlo Tree Search".
    """

    def __init__(self, name: str = "nasbench-macro") -> None:
        layers = sum(count for _, count in STAGES)
        super().__init__(name, [Choice(f"layer{i + 1}", OPTIONS) for i in range(layers)])

    def code(self, architecture: Architecture) -> str:
        """Return the key of the published file, such as "22212220"."""
        return "".join(map(str, self.check(architecture)))

    def from_code(self, code: str) -> Architecture:
        """Return the architecture of a key; ValueError when it names none."""
        if len(code) != len(self.choices) or not set(code) <= set("012"):
            raise ValueError(
                f"code must be {len(self.choices)} digits out of 0, 1 and 2, got {code!r}"
            )
        return tuple(map(int, code))

    def describe(self, architecture: Architecture) -> str:
        """Return the key of the published file."""
        return self.code(architecture)

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the encoding whose identities past a stage's first layer stand at its end."""
        self.check(architecture)
        chosen: list[int] = []
        for _, count in STAGES:
            first, *others = architecture[len(chosen) : len(chosen) + count]
            kept = [option for option in others if option]
            chosen += [first, *kept, *[0] * (count - 1 - len(kept))]
        return tuple(chosen)

    def params(self, architecture: Architecture) -> int:
        """Return the trainable parameters: convolutions, affine batch norms, linear layer."""
        return self._costs(architecture)[0]

    def macs(self, architecture: Architecture) -> int:
        """Return the multiply-accumulates of one image: convolutions and linear layer."""
        return self._costs(architecture)[1]

    def _costs(self, architecture: Architecture) -> tuple[int, int]:
        """Sum the units (weights, output channels, output pixels) of the network."""
        self.check(architecture)
        units = [(9 * 3 * STEM, STEM, IMAGE**2)]
        before, side, layer = STEM, IMAGE, 0
        for width, count in STAGES:
            for place in range(count):
                after = side // 2 if place == 0 else side
                units += _units(architecture[layer], before, width, side**2, after**2)
                before, side, layer = width, after, layer + 1
        units.append((before * HEAD, HEAD, side**2))
        params = sum(weights + 2 * channels for weights, channels, _ in units)
        macs = sum(weights * pixels for weights, _, pixels in units)
        return params + (HEAD + 1) * CLASSES, macs + HEAD * CLASSES


def _units(
    option: int, in_chs: int, out_chs: int, in_pixels: int, out_pixels: int
) -> list[tuple[int, int, int]]:
    """Return weights, output channels and output pixels of each convolution of a layer."""
    if option not in BLOCKS:
        # Where the shape changes, an identity is a 1 x 1 convolution; elsewhere it is nothing.
        same = in_chs == out_chs and in_pixels == out_pixels
        return [] if same else [(in_chs * out_chs, out_chs, out_pixels)]
    expansion, kernel = BLOCKS[option]
    hidden = expansion * in_chs
    return [
        (in_chs * hidden, hidden, in_pixels),
        (kernel * kernel * hidden, hidden, out_pixels),
        (hidden * out_chs, out_chs, out_pixels),
    ]


def nasbench_macro_table(path: str | Path | None = None) -> Table:
    """Read the published ground truth: test accuracy of three trainings, parameters, macs.

    `path` is the file or its folder; without it NAS_EXT_DATA names either. The accuracies are
    *test* accuracies of each training's best epoch by the test set: as rewards they are an oracle.
    Fifty candidates are the choice of chapter 3 for this space. Raises ValueError for a file
    that is missing, incomplete or of another shape.
    """
    space = NASBenchMacroSpace()
    file = data_file(FILE, path)
    rows = read_json(file)
    codes = {space.code(architecture): architecture for architecture in space}
    if not isinstance(rows, dict) or set(rows) != set(codes):
        found = len(rows) if isinstance(rows, dict) else type(rows).__name__
        raise ValueError(f"{file} must have the {len(codes):,} keys 00000000 to 22222222: {found}")
    entries = {codes[code]: _entry(file, code, row) for code, row in rows.items()}
    entries = {architecture: entries[architecture] for architecture in space}
    return Table(
        name="nasbench-macro",
        space=space,
        accuracies={a: entry["mean_acc"] / 100 for a, entry in entries.items()},
        deviations={a: entry["std"] / 100 for a, entry in entries.items()},
        seeds={a: tuple(s / 100 for s in entry["test_acc"]) for a, entry in entries.items()},
        macs={a: entry["flops"] for a, entry in entries.items()},
        params={a: entry["params"] for a, entry in entries.items()},
        candidates=50,
        source="NAS-Bench-Macro: CIFAR-10 test accuracy, trained alone, 3 seeds, best epoch",
    )


def _entry(file: Path, code: str, row: Any) -> dict[str, Any]:
    """Return a row of the file when it has the published fields; ValueError when it has not."""
    entry: dict[str, Any] = row if isinstance(row, dict) else {}
    seeds = entry.get("test_acc")
    valid = isinstance(seeds, list) and bool(seeds) and all(map(_is_number, seeds))
    valid = valid and all(_is_number(entry.get(name)) for name in ("mean_acc", "std"))
    if not valid or not all(isinstance(entry.get(name), int) for name in ("params", "flops")):
        raise ValueError(
            f"{file} must have test_acc, mean_acc, std, params and flops for {code}, got {row!r}"
        )
    mean = math.fsum(entry["test_acc"]) / len(entry["test_acc"])
    if abs(mean - entry["mean_acc"]) > 1e-3:
        raise ValueError(
            f"mean_acc of {code} in {file} must be the mean of test_acc, {mean:.4f}, "
            f"got {entry['mean_acc']}"
        )
    return entry


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))
