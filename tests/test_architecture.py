"""The levels of the house: a module imports only from lower levels, and frameworks live in their own room."""

import ast
import pathlib

import pytest

pytestmark = pytest.mark.one_backend

ROOT = pathlib.Path(__file__).parents[1]
LEVELS = {
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
    "callbacks": 5,
    "distribution": 5,
    "convert": 6,
    "export": 6,
    "presets": 6,
    "recipes": 6,
    "recordings": 6,
    "runs": 6,
    "cli": 7,
    "training": 8,
}
# Neighbours on one level that may use each other, one way.
NEIGHBOURS = {
    ("recordings", "convert"),
    ("presets", "convert"),
    ("export", "presets"),
    ("losses", "ops"),
    ("runs", "recipes"),
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
    for path, room in modules():
        for name in imports(path):
            if name.startswith("training") and room != "training":
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
            if not name.startswith("keras_siamim."):
                continue
            other = name.split(".")[1]
            if other in LEVELS and other != room and LEVELS[other] >= LEVELS[room] and (room, other) not in NEIGHBOURS:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_data_and_objectives_know_each_other_only_through_the_batch():
    for path, room in modules():
        rooms = {name.split(".")[1] for name in imports(path) if name.startswith("keras_siamim.")}
        if room == "data":
            assert rooms <= {"data", "batch", "files", "ops"}, path
        if room == "objectives":
            assert "data" not in rooms, path


def test_frameworks_are_imported_by_their_own_rooms_only():
    for path, room in modules():
        frameworks = {name.split(".")[0] for name in imports(path)} & FRAMEWORKS
        if room == "_backend":
            assert frameworks <= {path.stem}, path
        elif room not in ("data", "export", "convert", "runs", "cli", "training"):
            assert not frameworks, f"{path} imports {frameworks}"


def test_the_package_table_lists_every_room():
    assert {room for _, room in modules()} <= set(LEVELS)
