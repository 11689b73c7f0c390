"""Private names of other packages that this package uses: a release that drops one fails here, by its name."""

import ast
import functools
import importlib
import inspect
import pathlib
import re

import keras
import pytest

pytestmark = pytest.mark.one_backend("tensorflow")

PACKAGE = pathlib.Path(__file__).parents[1] / "keras_siamim"
# Module: private names of foreign base classes that its classes override or read.
INHERITED = {
    "data/views/paired_views.py": {  # keras-cv 0.9, whose `__call__` would leave out the geometry
        "_augment",
        "_batch_augment",
        "_ensure_inputs_are_compute_dtype",
        "_format_inputs",
        "_format_output",
        "_random_generator",
    },
    "optimizers/base.py": {  # the only module that knows how Keras's optimizers work inside
        "_accumulated_gradients",
        "_backend_apply_gradients",
        "_get_current_learning_rate",
        "_get_variable_index",
        "_iterations",
        "_learning_rate",
        "_use_weight_decay",
    },
}
# Module: private names of other objects, and where they live.
OTHERS = {
    "_backend/tensorflow.py": {"_maybe_symbolic_build": keras.Model},
    "layers/nested.py": {"_flatten_layers": keras.Layer},
    "optimizers/base.py": {"_iterations": keras.optimizers.Optimizer},
}


@functools.cache
def source_of(base):
    try:
        return inspect.getsource(base)
    except (OSError, TypeError):
        return ""


def has_private_name(base, name):
    return re.search(rf"(self\.|def ){name}\b", source_of(base)) is not None


def private_names(node):
    """Names of one leading underscore that a class defines, or reads from itself."""
    for child in ast.walk(node):
        if isinstance(child, ast.FunctionDef) and child in node.body:
            yield child.name
        if isinstance(child, ast.Attribute):
            yield child.attr


def inherited_private_names(path):
    tree = ast.parse(path.read_text())
    module = importlib.import_module(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts))
    found = set()
    for node in ast.walk(tree):
        kind = getattr(module, node.name, None) if isinstance(node, ast.ClassDef) else None
        if not inspect.isclass(kind):
            continue
        foreign = [base for base in kind.__mro__ if base.__module__.split(".")[0] not in ("keras_siamim", "builtins")]
        for name in private_names(node):
            if re.match(r"_[a-z]", name) and any(has_private_name(base, name) for base in foreign):
                found.add(name)
    return found


def test_inherited_private_names_are_those_listed():
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.stem in ("jax", "torch", "__main__") or "__init__" in path.name or path.parent.name == "cli":
            continue
        if names := inherited_private_names(path):
            found[str(path.relative_to(PACKAGE))] = names
    assert found == INHERITED


@pytest.mark.parametrize("module", OTHERS)
def test_other_private_names_exist(module):
    for name, owner in OTHERS[module].items():
        assert name in (PACKAGE / module).read_text()
        assert any(has_private_name(base, name) for base in owner.__mro__), f"{owner.__name__} has no {name}"


def test_private_kernels_of_pytorch_exist():
    """`_backend/kernels/torch.py` falls back to slower public functions without them."""
    import torch

    assert hasattr(torch, "_fused_adamw_")
    assert hasattr(torch.ops.mkldnn, "_linear_pointwise")
