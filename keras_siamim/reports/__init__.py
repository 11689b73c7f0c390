"""Pages of runs: one HTML file each, without scripts and without network access."""

from keras_siamim.reports.run_page import RunPage, write_run_page
from keras_siamim.reports.summary import RunSummary, read_summary

__all__ = ["RunPage", "RunSummary", "read_summary", "write_run_page"]
