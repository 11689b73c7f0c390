"""The protocols on frozen features by name, with the paper's settings, and the table that shows their results."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from keras_siamim.evaluation.exact_probe import exact_probe
from keras_siamim.evaluation.features import FEATURES, Features, check_pooling
from keras_siamim.evaluation.few_shot import few_shot
from keras_siamim.evaluation.health import health
from keras_siamim.evaluation.knn import knn
from keras_siamim.evaluation.linear_probe import linear_probe
from keras_siamim.evaluation.result import EvaluationResult
from keras_siamim.files import write_atomically

# Name: which features the paper's protocol looks at.
PROTOCOLS = {"knn": "mean", "linear": "mean", "lars": "mean", "few_shot": "unnormed_token", "health": "mean"}

# Steps an epoch that the paper's batch of 16,384 makes of ImageNet: smaller sets take smaller batches, not fewer steps.
_LARS_STEPS = 78


def parse_shots(text: str) -> list[dict]:
    """Read a list such as `"1%,10%,5"`: shares of the labels, and numbers of images per class.

    Raises:
        ValueError: if an entry is neither.

    Example:
        >>> parse_shots("1%,5")
        [{'fraction': 0.01}, {'per_class': 5}]
    """
    shots = []
    for entry in text.split(","):
        try:
            shots.append({"fraction": float(entry[:-1]) / 100} if entry.endswith("%") else {"per_class": int(entry)})
        except ValueError:
            raise ValueError(
                f"`shots` must be percentages and whole numbers, such as 1%,10%,5; received {text!r}."
            ) from None
    return shots


def run_protocol(
    name: str,
    train: Features,
    test: Features,
    pooling: str | None = None,
    shots: Sequence[Mapping] = ({"fraction": 0.01}, {"fraction": 0.1}),
    paired: Features | None = None,
    num_classes: int | None = None,
    seed: int = 0,
    verbose: int = 0,
) -> list[EvaluationResult]:
    """Run one protocol on extracted features.

    Args:
        name: one of `PROTOCOLS`: `"linear"` is the exact probe, `"lars"` the trained one, on features without
            augmentation.
        train: features of the train split; `health` doesn't look at them.
        test: features of the test split.
        pooling: one of `features.FEATURES`; by default what the paper's protocol uses.
        shots: arguments of `few_shot`, one result each.
        paired: features of another view of the first test images, for the alignment that `health` then shows.
        num_classes: number of classes; by default one more than the largest training label.
        seed: of all draws.
        verbose: 1 shows progress bars.

    Returns:
        The results, one or more.

    Raises:
        ValueError: if `name` or `pooling` is unknown, or as the protocol does.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"`name` must be one of {', '.join(PROTOCOLS)}; received {name!r}.")
    pooling = check_pooling(pooling or PROTOCOLS[name], FEATURES)
    if name == "health":
        return [health(test.pooled(pooling), paired and paired.pooled(pooling), seed=seed)]
    splits = (train.pooled(pooling), train.labels, test.pooled(pooling), test.labels)
    if name == "knn":
        return [knn(*splits, num_classes=num_classes, verbose=verbose)]
    if name == "linear":
        return [exact_probe(*splits, seed=seed, num_classes=num_classes, verbose=verbose)]
    if name == "few_shot":
        return [few_shot(*splits, **shot, seed=seed, num_classes=num_classes) for shot in shots]
    classes = num_classes or int(train.labels.max()) + 1
    batch_size = lars_batch_size(len(train.labels))
    return [linear_probe(splits[:2], splits[2:], classes, batch_size=batch_size, seed=seed)]


def lars_batch_size(images: int) -> int:
    """Return the batch of the trained probe for a train split: the paper's 16,384, or less for fewer images."""
    return min(16_384, max(32, images // _LARS_STEPS))


def headline(result: EvaluationResult) -> dict[str, str]:
    """Return the figures of a result that a table shows, by the name of their column."""
    numbers, settings = result.numbers, result.settings
    if result.protocol == "knn":
        best = "top1_k20" if "top1_k20" in numbers else next(iter(numbers))
        return {f"k-NN (k={best.removeprefix('top1_k')})": _percent(numbers[best])}
    if result.protocol == "few_shot":
        shot = "by list"
        if settings["fraction"]:
            shot = f"{100 * settings['fraction']:g} %"
        elif settings["per_class"]:
            shot = f"{settings['per_class']} per class"
        deviation = f" ± {100 * numbers['top1_std']:.1f}" if "top1_std" in numbers else ""
        return {f"few-shot {shot}": _percent(numbers["top1"]) + deviation}
    if result.protocol == "health":
        names = {"effective_rank": "rank", "channel_spread": "spread", "uniformity": "uniformity"}
        names |= {"alignment": "alignment"} if "alignment" in numbers else {}
        return {names[key]: f"{numbers[key]:.2f}" for key in names}
    columns = {"exact_probe": "linear (exact)", "linear_probe": "linear (LARS)", "fine_tuning": "fine-tuned"}
    if result.protocol == "imagenet_c":
        return {"1 - mCE": _percent(numbers["one_minus_mce"])}
    if result.protocol == "corruption_robustness":
        return {"mean corruption error": _percent(numbers["mean_corruption_error"])}
    return {columns.get(result.protocol, result.protocol): _percent(numbers["top1"])}


def _percent(fraction):
    return f"{100 * fraction:.1f}"


def markdown_table(rows: Mapping[str, Sequence[EvaluationResult]]) -> str:
    """Return a Markdown table: one line per representation, one column per figure; accuracies in per cent."""
    figures = {name: {k: v for r in results for k, v in headline(r).items()} for name, results in rows.items()}
    columns = list(dict.fromkeys(column for row in figures.values() for column in row))
    lines = ["| representation | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in figures.items():
        lines.append(f"| {name} | " + " | ".join(row.get(column, "–") for column in columns) + " |")
    return "\n".join(lines)


def write_report(folder: str | os.PathLike, about: Mapping, rows: Mapping[str, Sequence[EvaluationResult]]) -> None:
    """Write `evaluation.json` (everything) and `evaluation.md` (the table), each in one move.

    Args:
        folder: made if it doesn't exist.
        about: what was evaluated: encoder, data, splits, versions; JSON types.
        rows: results by representation.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    content = {**about, "rows": {name: [result.to_dict() for result in results] for name, results in rows.items()}}
    for name, text in (("evaluation.json", json.dumps(content, indent=2)), ("evaluation.md", markdown_table(rows))):
        with write_atomically(folder / name) as file:
            file.write(f"{text}\n".encode())
