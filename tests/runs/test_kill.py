"""A killed run ends like an uninterrupted one. `tests.programs.kill_test` kills more often and explains how."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
def test_a_run_killed_during_a_save_is_equal_to_an_uninterrupted_run(tmp_path):
    command = [sys.executable, "-m", "tests.programs.kill_test", str(tmp_path / "runs"), "--kills", "save"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
