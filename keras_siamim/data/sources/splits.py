"""Names of the splits of a data set, alike for folders, files of records and TFDS."""

# Names of splits in small letters, and what they mean.
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
}


def kind_of(name):
    """Return the split that a name means, in any case: `"train"`, `"val"`, `"test"`, or the name in small letters.

    Example:
    >>> kind_of("Training"), kind_of("valid"), kind_of("extra")
    ('train', 'val', 'extra')
    """
    return SPLITS.get(name.lower(), name.lower())


def choose_split(split, names):
    """Return the name that stands for a split: the same name, another spelling of it, or `val` in place of `test`.

    Args:
        split: Name of the split that is looked for.
        names: Names of the splits that exist.

    Returns:
        One of the names, or None if none of them stands for the split.

    Raises:
        ValueError: If several names do.

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
