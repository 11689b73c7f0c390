"""Fine-tuning: the whole encoder and a new head are trained on labels, by `fit`.

The recipe of Masked Autoencoders (arXiv 2111.06377, appendix A.1, table 9), which the paper (arXiv 2206.01204)
follows for ViT-Base. Augmentation belongs to the data: see `keras_siamim.data.augmentation`.
"""

import keras
import numpy as np

from keras_siamim.evaluation.checks import check_labels
from keras_siamim.evaluation.classifier import Classifier
from keras_siamim.evaluation.logits import predict_logits, top1
from keras_siamim.evaluation.result import EvaluationResult, stopwatch
from keras_siamim.optimizers import LayerDecayAdamW
from keras_siamim.schedules import scaled_learning_rate, warmup_cosine


def copy_to_train(encoder, rate: float):
    """Return a trainable copy of an encoder, with stochastic depth and without its final norm.

    The classifier normalizes what it pools, in place of the encoder's norm of every token (MAE's and MoCo v3's).

    Args:
        encoder: Keras model with the constructor argument `drop_path_rate`, as `ViTEncoder`; any model for rate 0.
        rate: probability that the last block is dropped, rising linearly to it; 0 or more and below 1.

    Raises:
        ValueError: if the encoder has no such argument and `rate` is above 0.
    """
    config = encoder.get_config()
    if rate and "drop_path_rate" not in config:
        raise ValueError(
            f"`drop_path_rate` must be 0 for an encoder without stochastic depth ({type(encoder).__name__}); received "
            f"{rate}."
        )
    changed = {"drop_path_rate": rate, "final_norm": False}
    copy = type(encoder).from_config({**config, **{key: changed[key] for key in changed.keys() & config.keys()}})
    if not copy.built:
        copy.build(encoder.input_shape)
    dropped = {id(variable) for variable in encoder.norm.variables} if config.get("final_norm") else set()
    copy.set_weights([keras.ops.convert_to_numpy(v) for v in encoder.weights if id(v) not in dropped])
    return copy


def layer_rates(classifier, layer_decay: float) -> dict:
    """Return the arguments of `LayerDecayAdamW` that make the rates of a classifier fall from layer to layer.

    Args:
        classifier: built `Classifier`. Its encoder tells its layers by `layer_of(path)` and `num_layers`, as
            `ViTEncoder` does; for a `layer_decay` of 1 any will do.
        layer_decay: factor from one layer to the one below.

    Raises:
        ValueError: if the encoder can't tell.
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
    encoder,
    train,
    test,
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
    verbose: int = 0,
    callbacks=(),
) -> tuple[Classifier, EvaluationResult]:
    """Fine-tune a copy of an encoder and measure it on the test split after the last epoch.

    Args:
        encoder: pre-trained Keras model from images to tokens; it stays as it is.
        train: data set (`tf.data.Dataset`, `PyDataset`) that knows its length and yields batches of (images, targets):
            augmented images (batch, height, width, 3) float32 and targets (batch, num_classes) float32 whose rows sum
            to 1, such as mixed one-hot labels.
        test: batches of (images, labels), not augmented, labels (batch,) integers.
        num_classes: number of classes, 2 or more.
        batch_size: images in a batch of `train`; it sets the learning rate.
        base_learning_rate: per 256 images.
        layer_decay: factor of the learning rate from one block to the one below; 0.65 for Base, 0.75 for Large, 1 for
            an encoder that doesn't tell its layers.
        drop_path_rate: stochastic depth of the last block.
        weight_decay: of AdamW.
        label_smoothing: share of the target spread over all classes, 0...1.
        epochs: passes over the train split.
        warmup_epochs: of linear warm-up, fewer than `epochs`.
        pooling: `"mean"` of the patch tokens, or the class `"token"`.
        verbose: as in `fit`.
        callbacks: as in `fit`.

    Returns:
        The compiled, fine-tuned `Classifier`, and an `EvaluationResult` with `top1` and `train_loss`.

    Raises:
        ValueError: if targets or labels are malformed, or a setting is out of its range.
    """
    if not 0 <= warmup_epochs < epochs:
        raise ValueError(f"`warmup_epochs` must be 0 or more and below `epochs`, {epochs}; received {warmup_epochs}.")
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"`label_smoothing` must be 0 or more and below 1; received {label_smoothing}.")
    targets = np.asarray(next(iter(train))[1])
    if targets.ndim != 2 or targets.shape[1] != num_classes or not np.allclose(targets.sum(axis=1), 1, atol=1e-3):
        raise ValueError(
            f"Targets of `train` must be (batch, {num_classes}) floats whose rows sum to 1; received {targets.shape} "
            f"{targets.dtype}."
        )
    steps = len(train)
    peak = scaled_learning_rate(base_learning_rate, batch_size)
    with stopwatch() as seconds:
        classifier = Classifier(copy_to_train(encoder, drop_path_rate), num_classes, pooling)
        if not classifier.built:
            classifier.build((None, *np.asarray(next(iter(train))[0]).shape[1:]))
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
        data={"train_images_an_epoch": steps * batch_size, "test_images": len(labels), "classes": num_classes},
        seed=None,
        seconds=seconds(),
    )
    return classifier, result
