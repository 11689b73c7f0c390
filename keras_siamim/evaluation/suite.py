"""Protocols on frozen features by name, with the paper's settings, and the table of their results."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from keras_siamim.evaluation.exact_probe import exact_probe
from keras_siamim.evaluation.features import FEATURES, Features
from keras_siamim.evaluation.few_shot import few_shot
from keras_siamim.evaluation.health import health
from keras_siamim.evaluation.knn import knn
from keras_siamim.evaluation.linear_probe import linear_probe
from keras_siamim.evaluation.result import EvaluationResult
from keras_siamim.files import write_atomically
from keras_siamim.ops.pooling import check_pooling
from keras_siamim.types import PathLike

# Protocol: features that the paper's version of it uses.
PROTOCOLS = {"knn": "mean", "linear": "mean", "lars": "mean", "few_shot": "unnormed_token", "health": "mean"}

# Steps per epoch of ImageNet with the paper's batch of 16,384. Smaller data sets keep the steps and reduce the batch.
_LARS_STEPS = 78


def parse_shots(shots: str) -> list[dict[str, float]]:
    """Parse a list of label budgets such as `"1%,10%,5"`.

    Args:
        shots: String of comma-separated entries: a percentage of the labels, or a number of images per class.

    Returns:
        List of arguments of `few_shot`, one dictionary per entry.

    Raises:
        ValueError: If an entry is neither.

    Example:
        >>> parse_shots("1%,5")
        [{'fraction': 0.01}, {'per_class': 5}]
    """
    parsed: list[dict[str, float]] = []
    for entry in shots.split(","):
        try:
            parsed.append({"fraction": float(entry[:-1]) / 100} if entry.endswith("%") else {"per_class": int(entry)})
        except ValueError:
            raise ValueError(
                f"`shots` must be percentages and integers, such as 1%,10%,5. Received: {shots!r}."
            ) from None
    return parsed


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
        name: String, one of `PROTOCOLS`. `"linear"` is the exact probe, `"lars"` the trained probe on features without
            augmentation.
        train: `Features` of the train split; `"health"` ignores them.
        test: `Features` of the test split.
        pooling: String, one of `features.FEATURES`, or `None` for the one that the paper's protocol uses; that of an
            encoder without a class token is `"mean"`. Defaults to `None`.
        shots: Sequence of mappings. Arguments of `few_shot`, one result each. Defaults to 1% and 10% of the labels.
        paired: `Features` of another view of the first test images, for the alignment in `"health"`, or `None`.
            Defaults to `None`.
        num_classes: Integer or `None`. Number of classes; `None` stands for the largest training label plus 1.
            Defaults to `None`.
        seed: Integer. Seed of all randomness. Defaults to 0.
        verbose: Integer. 1 shows progress bars. Defaults to 0.

    Returns:
        List of one or more results.

    Raises:
        ValueError: If `name` or `pooling` is unknown, or the protocol raises it.

    Example:
        >>> values = np.eye(4, dtype="float32")
        >>> split = Features(values, values, values, np.array([0, 0, 1, 1]))
        >>> run_protocol("knn", split, split)[0].protocol
        'knn'
    """
    if name not in PROTOCOLS:
        raise ValueError(f"`name` must be one of {', '.join(PROTOCOLS)}. Received: {name!r}.")
    pooling = check_pooling(pooling or (PROTOCOLS[name] if test.token.shape[1] else "mean"), FEATURES)
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
    """Return the batch size of the trained probe: the paper's 16,384, or less for small train splits.

    Args:
        images: Integer. Number of images of the train split.

    Returns:
        Integer in [32, 16384].

    Example:
        >>> lars_batch_size(1_281_167), lars_batch_size(50_000)
        (16384, 641)
    """
    return min(16_384, max(32, images // _LARS_STEPS))


def headline(result: EvaluationResult) -> dict[str, str]:
    """Return the metrics of a result that appear in the table, formatted, by the name of their column.

    Args:
        result: `EvaluationResult` of any protocol.

    Returns:
        Dictionary from column name to text. Accuracies are in %.

    Example:
        >>> headline(EvaluationResult("exact_probe", {"top1": 0.5}, {}, {}, seed=0, seconds=1.0))
        {'linear (exact)': '50.0'}
    """
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
    if result.protocol == "object_discovery":
        return {
            "CorLoc": _percent(numbers["corloc"]),
            "CorLoc of the image": _percent(numbers["corloc_complete_image"]),
        }
    if result.protocol == "box_localization":
        names = {"share_iou_50": "localization", "constant_share_iou_50": "localization of a constant box"}
        return {column: _percent(numbers[name]) for name, column in names.items()}
    if result.protocol == "long_tailed_probe":
        names = {"linear_top1": "long-tailed linear", "knn_top1": "long-tailed k-NN"}
        return {column: _percent(numbers[name]) for name, column in names.items()}
    if result.protocol == "vitdet":
        return {
            f"{name} (ViTDet)": _percent(value) for name, value in numbers.items() if name.endswith((" AP", "AP50"))
        }
    if "miou" in numbers:
        return {f"mIoU ({result.protocol.removesuffix('_segmentation')})": _percent(numbers["miou"])}
    columns = {
        "exact_probe": "linear (exact)",
        "linear_probe": "linear (LARS)",
        "attentive_probe": "attentive",
        "fine_tuning": "fine-tuned",
    }
    if result.protocol == "imagenet_c":
        return {"1 - mCE": _percent(numbers["one_minus_mce"])}
    if result.protocol == "corruption_robustness":
        return {"mean corruption error": _percent(numbers["mean_corruption_error"])}
    return {columns.get(result.protocol, result.protocol): _percent(numbers["top1"])}


def _percent(fraction):
    return f"{100 * fraction:.1f}"


def markdown_table(rows: Mapping[str, Sequence[EvaluationResult]]) -> str:
    """Return a Markdown table with one row per representation and one column per metric; accuracies in %.

    Args:
        rows: Mapping from the name of each representation to its results.

    Returns:
        String of several lines.

    Example:
        >>> result = EvaluationResult("knn", {"top1_k20": 0.5}, {}, {}, seed=None, seconds=1.0)
        >>> print(markdown_table({"encoder": [result]}))
        | representation | k-NN (k=20) |
        |---|---|
        | encoder | 50.0 |
    """
    metrics = {name: {k: v for r in results for k, v in headline(r).items()} for name, results in rows.items()}
    columns = list(dict.fromkeys(column for row in metrics.values() for column in row))
    lines = ["| representation | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in metrics.items():
        lines.append(f"| {name} | " + " | ".join(row.get(column, "–") for column in columns) + " |")
    return "\n".join(lines)


def write_report(folder: PathLike, about: Mapping, rows: Mapping[str, Sequence[EvaluationResult]]) -> None:
    """Write `evaluation.json` (everything) and `evaluation.md` (the table), each atomically.

    Args:
        folder: Path of the folder, which is created if it does not exist.
        about: Mapping of JSON types. Description of the evaluation: encoder, data, splits, versions.
        rows: Mapping from the name of each representation to its results.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    content = {**about, "rows": {name: [result.to_dict() for result in results] for name, results in rows.items()}}
    for name, text in (("evaluation.json", json.dumps(content, indent=2)), ("evaluation.md", markdown_table(rows))):
        with write_atomically(folder / name) as file:
            file.write(f"{text}\n".encode())
