"""Command-line programs: parse, build, run, report."""
