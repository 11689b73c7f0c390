"""The `keras-siamim` command: `keras-siamim COMMAND [options]`."""

import importlib
import sys
from collections.abc import Sequence

# Commands and their one-line descriptions, in the order in which a new user needs them.
COMMANDS = {
    "doctor": "look at images and choose a recipe for them",
    "pretrain": "pre-train an encoder on unlabeled images, or resume a run",
    "runs": "list and compare the runs in a folder",
    "show-views": "draw pairs of augmented views",
    "evaluate": "evaluate a frozen encoder, or the robustness of a classifier",
    "finetune": "fine-tune an encoder on labeled images",
    "segment": "train a segmenter on images with label maps",
    "detect": "train a detector on images with boxes",
    "embed": "write the features of images to a file",
    "export": "export an encoder or classifier as a SavedModel",
    "verify": "compare results with reference values of the authors' programs",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the named command.

    Args:
        arguments: List of strings. The command and its options. Defaults to those of the process.

    Returns:
        The exit status: 0 on success, 1 if the command rejects a value or cannot read or write a file, 2 for an unknown
        command or option. Commands define further values.

    Example:
        >>> from keras_siamim.cli.main import main
        >>> main(["--version"])
        keras-siamim 0.1.0
        0
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    command = arguments[0] if arguments else "--help"
    if command in ("-h", "--help"):
        print(_usage())
        return 0
    if command == "--version":
        from keras_siamim import __version__

        print(f"keras-siamim {__version__}")
        return 0
    if command not in COMMANDS:
        print(f"The command must be one of {', '.join(COMMANDS)}. Received: {command!r}.", file=sys.stderr)
        return 2
    # Imported here, so that each command loads only the libraries it needs.
    program = importlib.import_module(f"keras_siamim.cli.{command.replace('-', '_')}")
    try:
        return program.main(arguments[1:]) or 0
    except (ValueError, OSError) as error:
        print(f"keras-siamim {command}: {error}", file=sys.stderr)
        return 1


def _usage():
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: keras-siamim COMMAND [options]",
            "",
            "Siamese Image Modeling for Keras 3. KERAS_BACKEND selects tensorflow, jax or torch.",
            "",
            "commands:",
            *lines,
            "",
            "example:",
            "  keras-siamim pretrain --data path/to/images --recipe siamese_im_vit_tiny_64px",
            "",
            "`keras-siamim COMMAND --help` describes the options of a command.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
