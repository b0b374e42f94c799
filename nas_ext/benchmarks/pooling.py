"""The Pooling table: 36 pooling placements of a ResNet20 on CIFAR-10, each trained alone."""

from __future__ import annotations

from nas_ext.benchmarks.table import Table
from nas_ext.pooling import PoolingSpace, resnet_macs

__all__ = ["pooling_table"]

# Mean test accuracy in percent over the training seeds and its standard deviation, numbers 1 to
# 36 of the thesis's Table 2.1, at the precision of the file published with chapter 2.
_PERCENT = (
    (87.44666667, 0.06), (87.69, 0.08), (87.89166667, 0.17), (88.60166667, 0.15),
    (89.38333333, 0.07), (90.12666667, 0.14), (90.16333333, 0.10), (89.406, 0.15),
    (88.78333333, 0.10), (89.025, 0.12), (90.415, 0.10), (90.56833333, 0.11),
    (90.89166667, 0.07), (91.005, 0.13), (90.21666667, 0.18), (89.10166667, 0.06),
    (89.70166667, 0.10), (90.60666667, 0.17), (90.92166667, 0.10), (90.875, 0.08),
    (90.14, 0.16), (89.67833333, 0.14), (90.34166667, 0.13), (90.51666667, 0.15),
    (90.845, 0.12), (89.705, 0.16), (91.04833333, 0.15), (90.95666667, 0.15),
    (91.54666667, 0.09), (89.84, 0.08), (91.775, 0.11), (91.83, 0.13),
    (90.96333333, 0.12), (92.01166667, 0.18), (90.46833333, 0.11), (89.99166667, 0.12),
)  # fmt: skip


def pooling_table() -> Table:
    """Return the ground truth of the pooling space of ten layers and two poolings.

    ResNet20 at 3 x 32 x 32 pixels; macs count convolutions and the linear layer. Chapter 2.
    """
    space = PoolingSpace(layers=10, poolings=2, name="pooling-resnet20")
    rows = dict(zip(space, _PERCENT, strict=True))
    widths = (16, 16, 16, 16, 32, 32, 32, 64, 64, 64)
    return Table(
        name="pooling",
        space=space,
        accuracies={a: mean / 100 for a, (mean, _) in rows.items()},
        deviations={a: deviation / 100 for a, (_, deviation) in rows.items()},
        macs={
            a: resnet_macs(space.stages(a), widths, in_chs=3, num_classes=10, image_size=(32, 32))
            for a in space
        },
        source="Thesis, Table 2.1: CIFAR-10 test accuracy, trained alone",
    )
