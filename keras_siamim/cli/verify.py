"""Compare this package with reference values from the authors' programs.

    keras-siamim verify FILE [FILE ...]

Builds the model that each file describes, loads its weights, replays its inputs and prints one row per quantity. The
exit status is 1 if a quantity is out of tolerance or a file cannot be replayed.
"""

import argparse
import json
import sys
import zipfile
import zlib
from collections.abc import Sequence

import keras

from keras_siamim.cli.options import name_option
from keras_siamim.verification import format_report, replay_recording

# Errors of NumPy, `zipfile` and `json` for damaged files.
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, json.JSONDecodeError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay every file and print a report.

    Args:
        arguments: List of strings. Defaults to the command line of the process.

    Returns:
        The exit status, 0 if all quantities are within tolerance, otherwise 1.
    """
    parser = argparse.ArgumentParser(
        prog="keras-siamim verify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "files", type=name_option, nargs="+", metavar="FILE", help="files of reference values, .npz or JSON"
    )
    failed = False
    for file in parser.parse_args(arguments).files:
        title = f"{file} on {keras.config.backend()}"
        try:
            rows = replay_recording(file)
        except (ValueError, OSError, KeyError, ImportError, *DAMAGE) as error:
            print(f"{title}\n  {_reason(error)}")
            failed = True
            continue
        print(format_report(title, rows), flush=True)
        failed |= not all(row.passed for row in rows)
    return int(failed)


def _reason(error):
    if isinstance(error, KeyError):
        return f"The file has no entry {error}."
    return f"The file is damaged: {error}." if isinstance(error, DAMAGE) else error


if __name__ == "__main__":
    sys.exit(main())
