"""One HTML page about a search and the retrainings after it, complete in itself."""

from nas_ext.report.folder import write_retrain_report, write_search_report
from nas_ext.report.page import Figure, Section, Table, Text, render, write
from nas_ext.report.reading import Retraining, read_retraining
from nas_ext.report.retraining import retrain_sections
from nas_ext.report.search import search_sections

__all__ = [
    "Figure",
    "Retraining",
    "Section",
    "Table",
    "Text",
    "read_retraining",
    "render",
    "retrain_sections",
    "search_sections",
    "write",
    "write_retrain_report",
    "write_search_report",
]
