import os
import pathlib
import subprocess
import sys
import textwrap
import tomllib

import keras
import pytest
import setuptools

import keras_siamim

ROOT = pathlib.Path(__file__).parents[1]

HIDE_OTHERS = """
    import importlib.machinery, sys

    class Finder(importlib.machinery.PathFinder):
        @classmethod
        def find_spec(cls, name, path=None, target=None):
            return None if name.split(".")[0] in {others!r} else super().find_spec(name, path, target)

    sys.meta_path = [Finder if finder is importlib.machinery.PathFinder else finder for finder in sys.meta_path]
    import keras_siamim
    encoder = keras_siamim.ViTEncoder(image_size=16, patch_size=8, width=8, depth=1, num_heads=1)
    model = keras_siamim.SiameseIM(encoder, decoder_width=8, decoder_heads=1)
    print(model.count_params())
"""


def test_the_package_needs_one_framework_only():
    others = {"tensorflow", "jax", "torch", "keras_cv", "tensorflow_datasets", "sklearn", "pandas", "matplotlib"}
    program = textwrap.dedent(HIDE_OTHERS.format(others=sorted(others - {keras.config.backend()})))
    environment = {**os.environ, "KERAS_BACKEND": keras.config.backend()}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


def test_public_names_exist_and_are_documented():
    for name in keras_siamim.__all__:
        assert getattr(keras_siamim, name).__doc__


@pytest.mark.one_backend
def test_the_wheel_contains_the_package_only():
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = setuptools.find_packages(ROOT, **setup["packages"]["find"])
    assert {name.split(".")[0] for name in packages} == {"keras_siamim"}
    assert set(packages) == {
        ".".join(path.relative_to(ROOT).parent.parts) for path in ROOT.glob("keras_siamim/**/__init__.py")
    }
    patterns = setup["package-data"]["*"]
    others = [path for path in ROOT.glob("keras_siamim/**/*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    assert others
    assert all(any(path.match(pattern) for pattern in patterns) for path in others), others
