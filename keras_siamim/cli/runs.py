"""List and compare the runs of `pretrain` in a folder.

    keras-siamim runs runs
    keras-siamim runs runs --page runs/runs.html

The table has one row per run: recipe, state, epochs, loss, k-NN accuracy before and after training, effective rank and
training time. `--page` also writes a page for the browser, one file without scripts: the same table with links to the
pages of the runs, their curves in common plots, and the settings in which they differ.
"""

import argparse
import pathlib
from collections.abc import Sequence

from keras_siamim.callbacks.log_line import print_line
from keras_siamim.cli.options import path_option
from keras_siamim.reports.comparison import HEADER, cells, find_runs, text_table, write_comparison_page


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table of runs, and write the page if one is asked for.

    Args:
        arguments: List of strings. Defaults to the command line of the process.

    Returns:
        The exit status: 0, or 1 without any run.

    Raises:
        ValueError: If the folder does not exist.
        OSError: If the page cannot be written.
    """
    parser = argparse.ArgumentParser(
        prog="keras-siamim runs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", type=path_option, nargs="?", default=pathlib.Path("runs"), help="folder of runs; default: runs"
    )
    parser.add_argument("--page", type=path_option, metavar="FILE", help="HTML page to write")
    options = parser.parse_args(arguments)
    summaries, damaged = find_runs(options.folder)
    for line in damaged:
        print_line(line)
    if not summaries:
        print_line(f"no runs of pretrain in {options.folder}")
        return 1
    print_line(text_table(HEADER, [cells(summary, options.folder) for summary in summaries]))
    if options.page is not None:
        write_comparison_page(summaries, options.folder, options.page)
        print_line(f"page: {options.page}")
    return 0
