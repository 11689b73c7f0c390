"""Multinomial logistic regression on frozen features, solved to convergence by scikit-learn's L-BFGS."""

import warnings
from typing import Any, NamedTuple

import numpy as np

from keras_siamim.types import ArrayLike

# Below this number of feature values the solver runs on one thread: thread synchronization would cost more than the
# work, up to a hundred times more on a busy machine.
_MIN_SIZE_FOR_THREADS = 20_000_000


class LinearClassifier(NamedTuple):
    """Fitted linear classifier.

    Attributes:
        estimator: scikit-learn `LogisticRegression`.
        converged: Boolean. True if the solver converged.
    """

    estimator: Any
    converged: bool

    def accuracy(self, features: ArrayLike, labels: ArrayLike) -> float:
        """Return the share of correctly predicted images.

        Args:
            features: (images, width) floats.
            labels: (images,) integers.

        Returns:
            Float in [0, 1].
        """
        return float(np.mean(self.estimator.predict(np.asarray(features)) == labels))


def fit_logistic(
    features: ArrayLike,
    labels: ArrayLike,
    penalty: float,
    intercept: bool,
    max_iterations: int = 1000,
    start: LinearClassifier | None = None,
) -> LinearClassifier:
    """Minimize the sum of the images' cross-entropies + (penalty / 2) ||W||^2.

    Args:
        features: (images, width) float32 or float64; the solver works in the same precision.
        labels: (images,) integers with at least two values.
        penalty: Float above 0.
        intercept: Boolean. True fits an intercept, without penalty.
        max_iterations: Integer. Iterations, at most; a fit that reaches them has `converged` False. Defaults to 1000.
        start: Earlier fit of the same shape to warm-start from, or `None`. It is modified and must not be used again.
            Defaults to `None`.

    Returns:
        A `LinearClassifier`.

    Example:
        >>> features, labels = np.eye(2), np.array([0, 1])
        >>> fit_logistic(features, labels, penalty=0.1, intercept=False).accuracy(features, labels)
        1.0
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    features = np.asarray(features)
    classes = len(np.unique(labels))
    # scikit-learn fits two classes by one vector. Halving its penalty gives that of two opposite vectors, so that the
    # optimum is the multinomial one for any number of classes.
    inverse = (2 if classes == 2 else 1) / penalty
    estimator = start.estimator if start is not None else LogisticRegression(warm_start=True, tol=1e-5)
    estimator.set_params(C=inverse, fit_intercept=intercept, max_iter=max_iterations)
    threads = None if features.size > _MIN_SIZE_FOR_THREADS else 1
    with warnings.catch_warnings(record=True) as caught, threadpool_limits(threads):
        warnings.simplefilter("always", ConvergenceWarning)
        estimator.fit(features, labels)
    return LinearClassifier(estimator, not any(issubclass(w.category, ConvergenceWarning) for w in caught))
