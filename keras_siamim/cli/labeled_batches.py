"""Labeled splits as batches, for the programs that judge and fine-tune."""

import keras

from keras_siamim import batch as batch_keys
from keras_siamim.data.bad_images import Ledger
from keras_siamim.data.pipeline import evaluation_batches, steps_per_epoch, training_batches
from keras_siamim.data.sources import IndexedSource, has_labels, open_held_out, open_source, sample_of
from keras_siamim.data.views.paired_views import PairedViews
from keras_siamim.data.views.recipe import ViewRecipe
from keras_siamim.files import listed, printable


class Batches:
    """A `tf.data.Dataset` as re-iterable NumPy batches of known number.

    The ledger is the one that the data set was made with: its complaint about bad images replaces TensorFlow's.
    """

    def __init__(self, dataset, count, ledger):
        self.dataset, self.count, self.ledger = dataset, count, ledger

    def __len__(self):
        return self.count

    def __iter__(self):
        with self.ledger.short_errors():
            yield from self.dataset.as_numpy_iterator()


class Epochs(keras.utils.PyDataset):
    """An endless stream of batches as a data set that knows how many make an epoch."""

    def __init__(self, batches, steps, ledger):
        super().__init__()
        self.batches, self.steps, self.ledger = batches.as_numpy_iterator(), steps, ledger

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        with self.ledger.short_errors():
            return next(self.batches)


def open_labeled(data, split, max_images=None, seed=0):
    """Open a split that has labels, or a random part of it.

    Raises:
        ValueError: If it has no labels.
    """
    source = open_source(data, split)
    print_notes(source.notes)
    if not has_labels(source):
        raise ValueError(f"{source.name} must have labels for this. Received: images without labels.")
    return _part(source, max_images, seed)


def open_labeled_pair(data, train_split, test_split, max_train=None, max_test=None, seed=0):
    """Open a training and a test split whose labels mean the same: the test split's are matched by name.

    Raises:
        ValueError: If a split has no labels, or the test split a class that the training split lacks.
    """
    train = open_labeled(data, train_split, max_train, seed)
    test, notes = open_held_out(data, test_split, train)
    print_notes(notes)
    return train, _part(test, max_test, seed)


def open_for_classifier(data, train_split, test_split, num_classes, max_images=None, seed=0):
    """Open a test split with the labels that a classifier learned: in the numbering of the training split, if any.

    Raises:
        ValueError: If the test split has no labels, or the splits' classes are not those of the classifier.
    """
    try:
        train = open_source(data, train_split)
    except ValueError:  # images to test on alone
        test = named = open_labeled(data, test_split, max_images, seed)
    else:
        (test, notes), named = open_held_out(data, test_split, train), train
        print_notes(notes)
        test = _part(test, max_images, seed)
    if num_classes not in (None, len(named.class_names)):
        raise ValueError(
            f"{named.name} must have the {num_classes} classes of the classifier. Received: "
            f"{len(named.class_names)} classes: {listed(named.class_names)}."
        )
    return test


def _part(source, max_images, seed):
    part = sample_of(source, max_images or source.size, seed)
    print(f"{source.name}: {part.size} of {source.size} images", flush=True)
    return part


def print_notes(notes):
    """Print sentences that a user should know about the images, one line each."""
    for note in notes:
        print(printable(note), flush=True)


def image_names(source):
    """The path of every image of a folder, in its order.

    Raises:
        ValueError: if the source's images are not files.
    """
    if not isinstance(source, IndexedSource):
        raise ValueError(f"Images can be listed by name in a folder of files; received {source.name}.")
    return [source.locate(number) for number in range(source.size)]


def plain_batches(source, image_size, batch_size, resize=None):
    """All images (resized, the middle cut) and labels of a source, once, in its order; a bad one is an error.

    Without `resize`, images that have the right size already are taken as they are; others lose their margin.
    """
    ledger = Ledger(limit=0)
    batches = evaluation_batches(source, image_size, batch_size, resize, ledger).map(_labeled)
    return Batches(batches, -(-source.size // batch_size), ledger)


def cropped_epochs(source, image_size, batch_size, seed, area=(0.08, 1.0), prepare=lambda batches: batches):
    """Random resized crops, half of them flipped, and labels; epoch after epoch, each in another order.

    `prepare` turns the `tf.data.Dataset` of (images, labels) into what is trained on.
    """
    views = PairedViews(image_size, ViewRecipe.crop_and_flip(area=area), None, seed=seed)
    ledger = Ledger()
    batches = training_batches(source, views, batch_size=batch_size, seed=seed, ledger=ledger).map(_labeled)
    return Epochs(prepare(batches), steps_per_epoch(source, batch_size), ledger)


def second_views(source, image_size, batch_size, seed, images):
    """A random crop, flipped or not, of each of the first images, in the order of `plain_batches`.

    As many images as whole batches hold, at most `images`.
    """
    size = min(batch_size, source.size)
    count = max(1, min(images, source.size) // size)
    views = PairedViews(image_size, ViewRecipe.crop_and_flip(area=(0.2, 1.0)), None, seed=seed)
    ledger = Ledger()
    batches = training_batches(source, views, batch_size=size, shuffle=False, ledger=ledger)
    return Batches(batches.take(count).map(_labeled), count, ledger)


def _labeled(batch):
    return batch[batch_keys.VIEW_1], batch[batch_keys.LABEL]
