"""Names of the splits of a data set, the same for folders, files of records and TFDS."""

from collections.abc import Sequence

# Names of splits in lower case, and the splits that they stand for.
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
}


def kind_of(name: str) -> str:
    """Return the split that a name of any case stands for: `"train"`, `"val"`, `"test"`, or the name in lower case.

    Example:
    >>> kind_of("Training"), kind_of("valid"), kind_of("extra")
    ('train', 'val', 'extra')
    """
    return SPLITS.get(name.lower(), name.lower())


def choose_split(split: str, names: Sequence[str]) -> str | None:
    """Return the name that stands for a split: the same name, another spelling of it, or `val` in place of `test`.

    Args:
        split: String. Name of the requested split.
        names: Strings. Names of the existing splits.

    Returns:
        One of the names, or None if none of them stands for the split.

    Raises:
        ValueError: If several names stand for the split.

    Example:
    >>> choose_split("test", ["Train", "Validation"])
    'Validation'
    """
    if split in names and sum(name.lower() == split.lower() for name in names) == 1:
        return split
    kind = kind_of(split)
    for wanted in (kind, "val") if kind == "test" else (kind,):
        found = [name for name in names if kind_of(name) == wanted]
        if len(found) > 1:
            raise ValueError(f"`split` must name one split. Received: {split!r}, for which there are {found}.")
        if found:
            return found[0]
    return None
