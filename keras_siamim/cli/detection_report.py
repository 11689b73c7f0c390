"""Scores, tables and figures of a detector: the report of the command `detect`."""

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_siamim.cli.options import short_name
from keras_siamim.data.detection_batches import detection_test_batches, stored_images
from keras_siamim.data.instance_masks import decode_mask, valid_segmentation
from keras_siamim.data.sources.box_selection import box_sample
from keras_siamim.data.sources.boxes import BoxSource
from keras_siamim.data.sources.coco import ground_truth
from keras_siamim.detection import MaskRCNN
from keras_siamim.detection.recipes import RECIPES, DetectorRecipe
from keras_siamim.detection.scoring import ImageDetections, coco_detections, detect_images
from keras_siamim.evaluation import suite
from keras_siamim.evaluation.average_precision import AveragePrecision, average_precision, write_detections
from keras_siamim.evaluation.result import EvaluationResult
from keras_siamim.export import export_detector
from keras_siamim.files import replace_atomically, write_atomically
from keras_siamim.runs import description as descriptions
from keras_siamim.visualization.detections import Objects, save_detections

PICTURES, PICTURE_SCORE = 8, 0.5
_KINDS = {"bbox": "box", "segm": "mask"}


def detections_of(
    model: MaskRCNN, source: BoxSource, options: argparse.Namespace, verbose: int = 0
) -> list[dict[str, Any]]:
    """Return the detections in all images of a source, in the format of COCO.

    Args:
        model: `MaskRCNN`.
        source: `BoxSource`.
        options: Parsed options of the command.
        verbose: Integer. 1 shows a progress bar. Defaults to 0.
    """
    batches = detection_test_batches(source, options.image_size, options.batch_size)
    return coco_detections(detect_images(model, batches, verbose), source.category_ids)


def score(
    source: BoxSource, detections: Sequence[Mapping[str, Any]], options: argparse.Namespace
) -> list[AveragePrecision]:
    """Return the average precision of boxes and, with masks, of masks.

    Args:
        source: `BoxSource` of the images.
        detections: Sequence of `detections_of`.
        options: Parsed options of the command.
    """
    truth = ground_truth(source)
    kinds = list(_KINDS)[: 1 + options.masks]
    return [average_precision(truth, detections, kind, options.lvis) for kind in kinds]


def headline_numbers(precisions: Sequence[AveragePrecision]) -> dict[str, float]:
    """Return AP and AP50 of boxes and masks, by names such as `"box AP"`; -1 without objects."""
    return {
        f"{_KINDS[precision.kind]} {name}": precision.numbers[name]
        for precision in precisions
        for name in ("AP", "AP50")
    }


def finish(
    model: MaskRCNN,
    run: dict[str, Any],
    source: BoxSource,
    folder: Path,
    options: argparse.Namespace,
    recipe: DetectorRecipe,
) -> None:
    """Save the detector, score the test split, write tables and a figure, and record that the run is finished.

    Args:
        model: Trained `MaskRCNN`.
        run: Description of the run. The function adds its results.
        source: `BoxSource` of the test split.
        folder: Path of the run folder.
        options: Parsed options of the command.
        recipe: `DetectorRecipe` of the run.
    """
    with replace_atomically(folder / "detector.keras") as staging:
        model.save(staging)
    print(f"test: {source.size} images of {source.name}", flush=True)
    detections = detections_of(model, source, options, verbose=1 if sys.stdout.isatty() else 0)
    write_detections(folder / "detections.json", detections)
    precisions = score(source, detections, options)
    numbers = {
        f"{_KINDS[precision.kind]} {name}": value
        for precision in precisions
        for name, value in precision.numbers.items()
    }
    result = EvaluationResult(
        protocol="vitdet",
        numbers={**headline_numbers(precisions), **numbers},
        settings={**run["settings"], "detector": dataclasses.asdict(recipe.detector)},
        data={"test": source.name, "test_images": source.size, "classes": len(source.class_names)},
        seed=options.seed,
        seconds=run["seconds"],
        notes=deviations(options, recipe),
    )
    name = short_name(run["settings"]["encoder"])
    suite.write_report(folder, {"encoder_sha256": run["encoder_sha256"]}, {name: [result]})
    table = precision_table(precisions, dict(zip(source.category_ids, source.class_names, strict=True)))
    with write_atomically(folder / "precision.md") as file:
        file.write(f"{table}\n".encode())
    draw(model, source, folder, options)
    print(f"\n{table}\n\n{suite.markdown_table({name: [result]})}\n\nwritten to {folder}")
    if options.export is not None:
        exported = export_detector(model, options.export / short_name(folder))
        print(f"exported to {exported.path}; detections differ from Keras's by {exported.error:.1e}")
    run["results"] = result.to_dict()
    descriptions.write(folder, run)


def deviations(options: argparse.Namespace, recipe: DetectorRecipe) -> tuple[str, ...]:
    """Return a sentence for each setting that differs from the recipe for COCO or LVIS.

    Args:
        options: Parsed options of the command.
        recipe: `DetectorRecipe` of the run.
    """
    method = RECIPES["lvis" if options.lvis else "coco"]()
    used = {name: getattr(options, name) for name in ("steps", "batch_size", "image_size", "learning_rate")}
    used |= {"scale": tuple(options.scale), "window_size": options.window_size, "detector": recipe.detector}
    return tuple(
        f"{name} is {value}, {getattr(method, name)} in the method."
        for name, value in used.items()
        if value != getattr(method, name)
    )


def draw(model: MaskRCNN, source: BoxSource, folder: Path, options: argparse.Namespace) -> None:
    """Write the figure of annotated and detected objects in a few images, `detections.png`.

    Args:
        model: Trained `MaskRCNN`.
        source: `BoxSource` of the test split.
        folder: Path of the run folder.
        options: Parsed options of the command.
    """
    source = box_sample(source, PICTURES)
    batches = detection_test_batches(source, options.image_size, options.batch_size)
    examples = (
        (image, _annotated(source, position, options.masks), _detected(found))
        for position, (image, found) in enumerate(
            zip(stored_images(source), detect_images(model, batches), strict=True)
        )
    )
    save_detections(folder / "detections.png", examples, source.class_names)


def _annotated(source, position, masks):
    found = source.annotations
    rows = np.flatnonzero(found.image_index == position)
    decoded = None
    if masks and found.segmentations:
        size = found.image_sizes[position].tolist()
        decoded = np.zeros((len(rows), *size), bool)
        for number, row in enumerate(rows):
            try:
                decoded[number] = decode_mask(valid_segmentation(found.segmentations[row], *size), *size)
            except ValueError:
                continue  # the box alone is drawn
    return Objects(found.boxes[rows], found.labels[rows], None, decoded)


def _detected(found: ImageDetections) -> Objects:
    kept = found.scores >= PICTURE_SCORE
    masks = None if found.masks is None else found.masks[kept]
    return Objects(found.boxes[kept], found.classes[kept], found.scores[kept], masks)


def precision_table(precisions: Sequence[AveragePrecision], class_names: Mapping[int, str]) -> str:
    """Return a Markdown table of all average precisions and those of each class, in %.

    Args:
        precisions: Sequence of `AveragePrecision`.
        class_names: Mapping from the id of each category to its name.

    Returns:
        String of several lines. Numbers without objects are dashes.

    Example:
        >>> print(precision_table([AveragePrecision("bbox", {"AP": 0.5, "AR1": 0.1}, {3: 0.5})], {3: "cell"}))
        | | box |
        |---|---|
        | AP | 50.0 |
        | AP of cell | 50.0 |
    """
    names = [name for name in precisions[0].numbers if name.startswith("AP")]
    rows = [(name, [precision.numbers[name] for precision in precisions]) for name in names]
    rows += [
        (f"AP of {name}", [precision.by_category[number] for precision in precisions])
        for number, name in class_names.items()
    ]
    head = " | ".join(_KINDS[precision.kind] for precision in precisions)
    lines = [f"| | {head} |", "|---" * (1 + len(precisions)) + "|"]
    return "\n".join([*lines, *(f"| {name} | {' | '.join(map(percent, values))} |" for name, values in rows)])


def percent(fraction: float) -> str:
    """Return a fraction in %, or a dash for -1."""
    return "–" if fraction < 0 else f"{100 * fraction:.1f}"
