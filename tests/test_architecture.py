"""The levels of the packages: a module imports only from lower levels, and frameworks live in their own packages."""

import ast
import pathlib

import pytest

pytestmark = pytest.mark.one_backend

ROOT = pathlib.Path(__file__).parents[1]
LEVELS = {
    "types": -1,
    "arguments": 0,
    "batch": 0,
    "files": 0,
    "_backend": 0,
    "ops": 1,
    "losses": 1,
    "schedules": 1,
    "optimizers": 1,
    "layers": 2,
    "data": 2,
    "backbones": 3,
    "objectives": 4,
    "evaluation": 5,
    "visualization": 5,
    "distribution": 5,
    "callbacks": 6,
    "convert": 6,
    "detection": 6,
    "segmentation": 6,
    "presets": 7,
    "recipes": 7,
    "export": 8,
    "verification": 8,
    "runs": 8,
    "reports": 9,
    "cli": 10,
    "training": 11,
}
FRAMEWORKS = {"tensorflow", "jax", "torch", "keras_cv", "tensorflow_datasets"}


def modules():
    for path in sorted([*ROOT.glob("keras_siamim/**/*.py"), *ROOT.glob("training/**/*.py")]):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts != ("keras_siamim", "__init__"):
            yield path, parts[0] if parts[0] == "training" else parts[1]


def imports(path, top_level_only=False):
    tree = ast.parse(path.read_text())
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            if node.module == "keras_siamim":
                yield from (f"keras_siamim.{alias.name}" for alias in node.names)


def test_every_module_imports_only_from_lower_levels():
    wrong = []
    for path, package in modules():
        for name in imports(path):
            if name.startswith("training") and package != "training":
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
            if not name.startswith("keras_siamim."):
                continue
            other = name.split(".")[1]
            if other in LEVELS and other != package and LEVELS[other] >= LEVELS[package]:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_data_and_objectives_know_each_other_only_through_the_batch():
    for path, package in modules():
        packages = {name.split(".")[1] for name in imports(path) if name.startswith("keras_siamim.")}
        if package == "data":
            assert packages <= {"arguments", "batch", "data", "files", "ops", "types"}, path
        if package == "objectives":
            assert "data" not in packages, path


def test_frameworks_are_imported_by_their_own_packages_only():
    for path, package in modules():
        frameworks = {name.split(".")[0] for name in imports(path)} & FRAMEWORKS
        if package == "_backend":
            assert frameworks <= {path.stem}, path
        elif package not in ("data", "visualization", "export", "convert", "runs", "cli", "training"):
            assert not frameworks, f"{path} imports {frameworks}"


def test_the_package_table_lists_every_package():
    assert {package for _, package in modules()} <= set(LEVELS)
