"""Reports: an estimate as a document. Importing this package registers the exporters that ship with Plumbline."""

from planner.report import csv_terms, html, json_report, markdown, pdf
from planner.report.registry import EXPORTERS, Exporter, Subject, export, find_exporter, register

__all__ = [
    "EXPORTERS",
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
]
