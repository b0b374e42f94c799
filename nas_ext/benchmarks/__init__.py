"""Tables with ground truth, and running strategies against them in seconds."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from nas_ext.benchmarks.pooling import pooling_table
from nas_ext.benchmarks.run import TableRun, run
from nas_ext.benchmarks.table import Table, TabularEstimator

__all__ = ["TABLES", "Table", "TableRun", "TabularEstimator", "pooling_table", "run"]

TABLES: Mapping[str, Callable[[], Table]] = MappingProxyType({"pooling": pooling_table})
"""The tables by the name that `nas-ext bench` takes."""
