"""The report of a run: tables, figures and pages from the frames of ``bench.stats``."""
