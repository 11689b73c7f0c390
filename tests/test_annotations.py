"""`py.typed` promises types: public functions and constructors are annotated."""

import ast
import pathlib

import pytest

pytestmark = pytest.mark.one_backend

PACKAGE = pathlib.Path(__file__).parents[1] / "keras_siamim"
# Methods that override those of Keras, whose signatures are Keras's.
OVERRIDDEN = {
    "add_variable_from_reference",
    "apply",
    "build",
    "call",
    "check_finite",
    "compute_loss",
    "compute_output_shape",
    "compute_output_spec",
    "evaluate",
    "fit",
    "from_config",
    "get_compile_config",
    "get_config",
    "get_metrics_result",
    "make_train_function",
    "on_epoch_begin",
    "on_epoch_end",
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_train_begin",
    "on_train_end",
    "set_model",
    "test_step",
    "train_step",
    "update_step",
}


def functions(tree):
    """Public functions of a module and public methods and constructors of its public classes."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name, node, False
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            bases = {getattr(base, "attr", getattr(base, "id", "")) for base in node.bases}
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and (
                    method.name == "__init__" or not method.name.startswith("_")
                ):
                    if method.name in OVERRIDDEN:
                        continue
                    yield f"{node.name}.{method.name}", method, bool(bases)


def test_public_functions_and_constructors_are_annotated():
    missing = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for name, node, inherits in functions(ast.parse(path.read_text())):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            unannotated = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
            # A method that overrides one of our own classes inherits its types.
            if (
                inherits
                and not name.endswith("__init__")
                and not node.returns
                and len(unannotated) == len(arguments) - 1
            ):
                continue
            if unannotated or (node.returns is None and not name.endswith("__init__")):
                missing.append(f"{path.relative_to(PACKAGE)}: {name}({', '.join(unannotated)})")
    assert not missing, "\n".join(missing)
