"""Fine-tuning: `fit` trains a copy of the encoder and a new head on labels.

The recipe of Masked Autoencoders (arXiv 2111.06377, appendix A.1, table 9), which the paper (arXiv 2206.01204)
follows for ViT-Base. Augmentation is part of the data, see `keras_siamim.data.augmentation`.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from keras_siamim.evaluation.checks import check_labels, first_batch
from keras_siamim.evaluation.classifier import Classifier
from keras_siamim.evaluation.logits import predict_logits, top1
from keras_siamim.evaluation.result import EvaluationResult, stopwatch
from keras_siamim.optimizers import LayerDecayAdamW
from keras_siamim.schedules import scaled_learning_rate, warmup_cosine
from keras_siamim.types import ArrayLike


def copy_to_train(encoder: keras.Model, rate: float) -> keras.Model:
    """Return a trainable copy of an encoder, with stochastic depth and without its final norm.

    Args:
        encoder: `keras.Model` with the constructor argument `drop_path_rate`, such as `ViTEncoder`. With a rate of 0,
            any Keras model. It stays unchanged.
        rate: Float in [0, 1). Probability that the last block is dropped; it rises linearly from 0 at the first block.

    Returns:
        A `keras.Model` with the weights of `encoder`, all of them trainable.

    Raises:
        ValueError: If `rate` is above 0 and the encoder has no argument `drop_path_rate`.

    Example:
        >>> encoder = ViTEncoder(image_size=8, patch_size=4, width=8, depth=1, num_heads=2)
        >>> copy_to_train(encoder, rate=0.1).drop_path_rate
        0.1
    """
    config = encoder.get_config()
    if rate and "drop_path_rate" not in config:
        raise ValueError(
            f"`drop_path_rate` must be 0 for an encoder without stochastic depth. Received: {rate} for "
            f"{type(encoder).__name__}."
        )
    # The classifier normalizes the pooled token, which replaces the final norm of every token (MAE's and MoCo v3's).
    changed = {"drop_path_rate": rate, "final_norm": False}
    copy = type(encoder).from_config({**config, **{key: changed[key] for key in changed.keys() & config.keys()}})
    if not copy.built:
        copy.build(encoder.input_shape)
    dropped = {id(variable) for variable in encoder.norm.variables} if config.get("final_norm") else set()
    copy.set_weights([keras.ops.convert_to_numpy(v) for v in encoder.weights if id(v) not in dropped])
    return copy


def layer_rates(classifier: Classifier, layer_decay: float) -> dict[str, Any]:
    """Return the arguments of `LayerDecayAdamW` for layer-wise learning-rate decay of a classifier.

    Args:
        classifier: Built `Classifier`. Its encoder has `layer_of(path)` and `num_layers`, such as `ViTEncoder`. With a
            `layer_decay` of 1, any encoder.
        layer_decay: Float in (0, 1]. Factor of the learning rate from one layer to the layer below.

    Returns:
        Dictionary with `layer_decay`, and `depth` and `layers` if the encoder has `layer_of`.

    Raises:
        ValueError: If `layer_decay` is not 1 and the encoder has no method `layer_of`.

    Example:
        >>> classifier = Classifier(ViTEncoder(image_size=8, patch_size=4, width=8, depth=1, num_heads=2), 2)
        >>> classifier.build((None, 8, 8, 3))
        >>> sorted(layer_rates(classifier, layer_decay=0.65))
        ['depth', 'layer_decay', 'layers']
    """
    encoder = classifier.encoder
    if not hasattr(encoder, "layer_of"):
        if layer_decay != 1:
            raise ValueError(
                f"`layer_decay` must be 1 for an encoder that has no method `layer_of`. Received: {layer_decay} for "
                f"{type(encoder).__name__}."
            )
        return {"layer_decay": 1.0}
    own = {id(variable) for variable in encoder.weights}
    layers = [encoder.layer_of(v.path) if id(v) in own else None for v in classifier.trainable_variables]
    return {"layer_decay": layer_decay, "depth": encoder.num_layers - 1, "layers": layers}


def fine_tune(
    encoder: keras.Model,
    train: Iterable[tuple[ArrayLike, ArrayLike]],
    test: Iterable[tuple[ArrayLike, ArrayLike]],
    num_classes: int,
    batch_size: int,
    base_learning_rate: float = 2.5e-4,
    layer_decay: float = 0.65,
    drop_path_rate: float = 0.1,
    weight_decay: float = 0.05,
    label_smoothing: float = 0.1,
    epochs: int = 100,
    warmup_epochs: int = 5,
    pooling: str = "mean",
    seed: int = 0,
    verbose: int | str = 0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> tuple[Classifier, EvaluationResult]:
    """Fine-tune a copy of an encoder and evaluate it on the test split after the last epoch.

    Args:
        encoder: Pre-trained `keras.Model` from images to tokens. It stays unchanged.
        train: `tf.data.Dataset` or `PyDataset` of known length. It yields batches of (images, targets): augmented
            images (batch, height, width, 3) float32 and targets (batch, num_classes) float32 whose rows sum to 1, such
            as mixed one-hot labels.
        test: Iterable of (images, labels) without augmentation, labels (batch,) integers.
        num_classes: Integer, 2 or more. Number of classes.
        batch_size: Integer. Images per batch of `train`; it scales the learning rate.
        base_learning_rate: Float. Learning rate per 256 images. Defaults to 2.5e-4.
        layer_decay: Float in (0, 1]. Factor of the learning rate from one block to the block below: 0.65 for ViT-Base,
            0.75 for ViT-Large, 1 for an encoder without `layer_of`. Defaults to 0.65.
        drop_path_rate: Float in [0, 1). Stochastic depth of the last block. Defaults to 0.1.
        weight_decay: Float. Weight decay of AdamW. Defaults to 0.05.
        label_smoothing: Float in [0, 1). Share of each target that is spread over all classes. Defaults to 0.1.
        epochs: Integer. Passes over the train split. Defaults to 100.
        warmup_epochs: Integer in [0, epochs). Epochs of linear warm-up. Defaults to 5.
        pooling: `"mean"` of the patch tokens, or the class `"token"`. Defaults to `"mean"`.
        seed: Integer. Seed of the head and of stochastic depth: Keras's global seed is set to it. Defaults to 0.
        verbose: Integer or string. Verbosity, as in `fit`. Defaults to 0.
        callbacks: Sequence of `keras.callbacks.Callback`, as in `fit`. Defaults to none.

    Returns:
        The compiled, fine-tuned `Classifier`, and an `EvaluationResult` with `top1` and `train_loss`.

    Raises:
        ValueError: If targets or labels are malformed, a split is empty, or a setting is out of its range.

    Example:
        >>> from keras_siamim.evaluation.linear_probe import ShuffledBatches
        >>> encoder = ViTEncoder(image_size=8, patch_size=4, width=8, depth=1, num_heads=2)
        >>> images, targets = np.zeros((4, 8, 8, 3), "float32"), np.eye(2, dtype="float32")[[0, 1, 0, 1]]
        >>> train, test = ShuffledBatches(images, targets, batch_size=4), [(images, np.array([0, 1, 0, 1]))]
        >>> classifier, result = fine_tune(encoder, train, test, 2, batch_size=4, epochs=1, warmup_epochs=0)
        >>> result.numbers["top1"]
        0.5
    """
    if not 0 <= warmup_epochs < epochs:
        raise ValueError(f"`warmup_epochs` must be 0 or more and below `epochs`, {epochs}. Received: {warmup_epochs}.")
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"`label_smoothing` must be 0 or more and below 1. Received: {label_smoothing}.")
    images, targets = first_batch(train, "train")
    first_batch(test, "test")  # before the training
    if targets.ndim != 2 or targets.shape[1] != num_classes or not np.allclose(targets.sum(axis=1), 1, atol=1e-3):
        raise ValueError(
            f"`train` must yield targets (batch, {num_classes}) whose rows sum to 1. Received: shape {targets.shape}, "
            f"dtype {targets.dtype}."
        )
    steps = len(train)  # type: ignore[arg-type]  # both kinds of data set have a length
    peak = scaled_learning_rate(base_learning_rate, batch_size)
    keras.utils.set_random_seed(seed)
    with stopwatch() as seconds:
        classifier = Classifier(copy_to_train(encoder, drop_path_rate), num_classes, pooling)
        if not classifier.built:
            classifier.build((None, *images.shape[1:]))
        classifier.compile(
            optimizer=LayerDecayAdamW(
                warmup_cosine(peak, warmup_epochs * steps, epochs * steps),
                **layer_rates(classifier, layer_decay),
                weight_decay=weight_decay,
            ),
            loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=label_smoothing),
        )
        history = classifier.fit(train, epochs=epochs, shuffle=False, verbose=verbose, callbacks=list(callbacks))
        logits, labels = predict_logits(classifier, test, verbose=verbose)
    check_labels(labels, len(labels), "test labels", num_classes)
    result = EvaluationResult(
        protocol="fine_tuning",
        numbers={"top1": top1(logits, labels), "train_loss": float(history.history["loss"][-1])},
        settings={
            "batch_size": batch_size,
            "base_learning_rate": base_learning_rate,
            "learning_rate": peak,
            "layer_decay": layer_decay,
            "drop_path_rate": drop_path_rate,
            "weight_decay": weight_decay,
            "label_smoothing": label_smoothing,
            "epochs": epochs,
            "warmup_epochs": warmup_epochs,
            "pooling": pooling,
        },
        data={"train_images_per_epoch": steps * batch_size, "test_images": len(labels), "classes": num_classes},
        seed=seed,
        seconds=seconds(),
    )
    return classifier, result
