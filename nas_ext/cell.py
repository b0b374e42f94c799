"""The cell of NAS-Bench-201, six edges with an operation each, and what its networks cost."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from nas_ext.additive_cost import AdditiveCost
from nas_ext.architecture import Architecture, Choice, SearchSpace

__all__ = [
    "EDGES",
    "KERNELS",
    "LABELS",
    "NASBENCH201",
    "OPERATIONS",
    "CellSkeleton",
    "NASBench201Space",
]

NASBENCH201 = "nasbench201"

EDGES = ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2))
"""The node that an edge goes into and the one that it comes from, in the order of the choices."""

LABELS = tuple(f"edge{into}_{source}" for into, source in EDGES)
"""The names of the choices."""

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""What an edge can do, in the benchmark's order."""

KERNELS = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
"""The kernel size of the operations that are convolutions."""

ZERO, INPUT = "#", "0"


class NASBench201Space(SearchSpace):
    """List the cells of four nodes in which every edge has one of five operations.

    Node 0 is the input, every other node the sum of what its edges bring, node 3 the output; all
    cells of a network are alike. 15,625 encodings, in the order of `itertools.product` over the
    edges. `operations` may be some of the benchmark's: a smaller space with the same meaning.
    Source: Dong and Yang 2020, "NAS-Bench-201: Extending the Scope of Reproducible Neural
    Architecture Search".
    """

    def __init__(self, *, operations: Sequence[str] = OPERATIONS, name: str = NASBENCH201) -> None:
        self.operations = tuple(operations)
        if not self.operations or not set(self.operations) <= set(OPERATIONS):
            raise ValueError(
                f"operations must be some of {list(OPERATIONS)}, got {list(operations)}"
            )
        super().__init__(name, [Choice(label, self.operations) for label in LABELS])

    def chosen(self, architecture: Architecture) -> tuple[str, ...]:
        """Return the operation of each edge."""
        self.check(architecture)
        return tuple(self.operations[option] for option in architecture)

    def code(self, architecture: Architecture) -> str:
        """Return the cell string of the benchmark: "|op~0|+|op~0|op~1|+|op~0|op~1|op~2|"."""
        nodes: dict[int, str] = {}
        for (into, source), operation in zip(EDGES, self.chosen(architecture), strict=True):
            nodes[into] = nodes.get(into, "|") + f"{operation}~{source}|"
        return "+".join(nodes.values())

    def from_code(self, code: str) -> Architecture:
        """Return the architecture of a cell string; ValueError when it names none."""
        found = re.findall(r"(\w+)~\d", code)
        if len(found) == len(EDGES) and set(found) <= set(self.operations):
            architecture = tuple(self.operations.index(operation) for operation in found)
            if self.code(architecture) == code:
                return architecture
        raise ValueError(
            "code must be a cell such as |op~0|+|op~0|op~1|+|op~0|op~1|op~2| with operations out "
            f"of {list(self.operations)}, got {code!r}"
        )

    def describe(self, architecture: Architecture) -> str:
        """Return the cell string of the benchmark."""
        return self.code(architecture)

    def topology(self, architecture: Architecture) -> str:
        """Return the string that isomorphic cells share: a term for what arrives at the output.

        "none" is zero, a skip is its input, sums are sorted, and an operation on zero is zero.
        The rule is the benchmark's own, to the letter: a zero is only seen at a node of one edge,
        and a sum that comes over a skip is not sorted anew, so that some equal cells have
        different strings. It is exact where norms have no bias; with one, a convolution of zeros
        puts its bias out.
        """
        nodes = [INPUT]
        terms: list[str] = []
        for (into, source), operation in zip(EDGES, self.chosen(architecture), strict=True):
            terms.append(_term(operation, nodes[source]))
            if len(terms) == into:  # all edges of the node are known
                nodes.append("+".join(sorted(terms)))
                terms = []
        return nodes[-1]

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the first encoding, in the space's order, of all cells isomorphic to this one.

        The full space has 6,466 such classes. Encodings of one class may differ in cost: an
        operation whose output is zero, or goes nowhere, is paid for.
        """
        return _first_of_class(self.operations)[self.check(architecture)]


@lru_cache(maxsize=8)
def _first_of_class(operations: tuple[str, ...]) -> Mapping[Architecture, Architecture]:
    """Map every encoding to the first one with its topology."""
    space, first = NASBench201Space(operations=operations), dict[str, Architecture]()
    return {a: first.setdefault(space.topology(a), a) for a in space}


def _term(operation: str, node: str) -> str:
    """Return what an edge brings from a node."""
    if operation == "none" or node == ZERO:
        return ZERO
    return node if operation == "skip_connect" else f"({node})@{operation}"


@dataclass(frozen=True, kw_only=True)
class CellSkeleton:
    """Say what stands around the cells, and count what networks of them cost.

    A 3x3 convolution to `width` channels, `cells` cells, a residual block that halves the
    resolution and doubles the channels, `cells` cells, another such block, `cells` cells; norm,
    average, linear layer. The published networks are the defaults.
    """

    width: int = 16
    cells: int = 5
    num_classes: int = 10
    in_chs: int = 3

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}")

    @property
    def widths(self) -> tuple[int, int, int]:
        """Return the channels of the three stages."""
        return self.width, 2 * self.width, 4 * self.width

    def macs_table(
        self, operations: Sequence[str], *, image_size: tuple[int, int]
    ) -> AdditiveCost:
        """Return the multiply-accumulates of one image of (H, W) pixels, by edge and operation.

        Convolutions and the linear layer count. Odd sides are rounded up when they are halved.
        Raises ValueError for images without pixels.
        """
        height, width = image_size
        if min(height, width) < 1:
            raise ValueError(f"image_size must be at least 1x1, got {height}x{width}")
        pixels = [-(-height // 2**stage) * -(-width // 2**stage) for stage in range(3)]
        fixed = 9 * self.in_chs * self.width * pixels[0] + self.widths[-1] * self.num_classes
        for before, after, size in zip(self.widths, self.widths[1:], pixels[1:], strict=False):
            fixed += size * _halving_weights(before, after)
        options = [
            self.cells
            * KERNELS.get(operation, 0) ** 2
            * sum(chs * chs * size for chs, size in zip(self.widths, pixels, strict=True))
            for operation in operations
        ]
        return AdditiveCost(fixed, (tuple(options),) * len(EDGES))

    def parameter_table(self, operations: Sequence[str]) -> AdditiveCost:
        """Return the parameters by edge and operation: weights, affine norms, linear layer."""
        last = self.widths[-1]
        fixed = (9 * self.in_chs + 2) * self.width + 2 * last + (last + 1) * self.num_classes
        for before, after in zip(self.widths, self.widths[1:], strict=False):
            fixed += _halving_weights(before, after) + 4 * after
        options = [
            self.cells * sum(KERNELS[name] ** 2 * chs * chs + 2 * chs for chs in self.widths)
            if name in KERNELS
            else 0
            for name in operations
        ]
        return AdditiveCost(fixed, (tuple(options),) * len(EDGES))


def _halving_weights(before: int, after: int) -> int:
    """Count the weights of a residual block between stages, each used for every pixel it makes."""
    return 9 * before * after + 9 * after * after + before * after
