"""Compare this package with numbers recorded from the authors' programs.

    keras-siamim verify FILE.npz [FILE.npz ...]

Builds the model that each recording describes, loads its weights, replays its inputs and prints one row a quantity.
Ends with status 1 if a quantity is out of tolerance or a file can't be replayed.
"""

import argparse
import sys

import keras

from keras_siamim.verification import format_report, replay_recording


def main(arguments=None):
    """Replay every file; the process's exit status."""
    parser = argparse.ArgumentParser(
        prog="keras-siamim verify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", metavar="FILE.npz", help="recordings")
    failed = False
    for file in parser.parse_args(arguments).files:
        title = f"{file} on {keras.config.backend()}"
        try:
            rows = replay_recording(file)
        except (ValueError, OSError, KeyError) as error:
            reason = f"The recording lacks {error}." if isinstance(error, KeyError) else error
            print(f"{title}\n  {reason}")
            failed = True
            continue
        print(format_report(title, rows), flush=True)
        failed |= not all(row.passed for row in rows)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
