"""Reports: an estimate as a document. Importing this package registers the exporters that ship with Plumbline."""

from planner.report import csv_terms, html, json_report, markdown, pdf, xlsx
from planner.report.registry import (
    EXPORTERS,
    Comparison,
    Exporter,
    Subject,
    export,
    find_exporter,
    register,
    subject_of,
)

__all__ = [
    "EXPORTERS",
    "Comparison",
    "Exporter",
    "Subject",
    "csv_terms",
    "export",
    "find_exporter",
    "html",
    "json_report",
    "markdown",
    "pdf",
    "register",
    "subject_of",
    "xlsx",
]
