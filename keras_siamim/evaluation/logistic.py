"""Multinomial logistic regression on frozen features, solved to convergence by scikit-learn's L-BFGS."""

import warnings
from typing import NamedTuple

import numpy as np

# Below this many feature values threads wait for each other longer than they work: a hundred times on a busy machine.
_WORTH_THREADS = 20_000_000


class LinearClassifier(NamedTuple):
    """A fitted classifier: `predict(features)` gives class numbers; `converged` says whether the solver finished."""

    estimator: object
    converged: bool

    def accuracy(self, features, labels) -> float:
        """Return the share of (images, width) features whose class is predicted right."""
        return float(np.mean(self.estimator.predict(np.asarray(features)) == labels))


def fit_logistic(
    features, labels, penalty: float, intercept: bool, max_iterations: int = 1000, start: LinearClassifier | None = None
) -> LinearClassifier:
    """Minimize the sum of the images' cross-entropies + (penalty / 2) ||W||^2.

    Two classes are solved as scikit-learn solves them, with one vector, whose penalty is halved to mean the same as
    two opposite vectors: the optimum is the multinomial one for any number of classes.

    Args:
        features: (images, width) float32 or float64, the precision it is solved in.
        labels: (images,) integers with at least two values.
        penalty: above 0. scikit-learn's C is 1 / penalty.
        intercept: whether to fit one, without penalty.
        max_iterations: after which the solver gives up, and `converged` is False.
        start: an earlier fit of the same shape to start from, which saves iterations; it is used up.

    Returns:
        A `LinearClassifier`.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    features = np.asarray(features)
    classes = len(np.unique(labels))
    inverse = (2 if classes == 2 else 1) / penalty
    estimator = start.estimator if start is not None else LogisticRegression(warm_start=True, tol=1e-5)
    estimator.set_params(C=inverse, fit_intercept=intercept, max_iter=max_iterations)
    threads = None if features.size > _WORTH_THREADS else 1
    with warnings.catch_warnings(record=True) as caught, threadpool_limits(threads):
        warnings.simplefilter("always", ConvergenceWarning)
        estimator.fit(features, labels)
    return LinearClassifier(estimator, not any(issubclass(w.category, ConvergenceWarning) for w in caught))
