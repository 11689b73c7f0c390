"""A killed run ends as one that never was; `tests.programs.kill_test` kills more often and says how."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def test_a_run_killed_inside_a_save_and_ended_by_sigterm_is_the_same_run_bit_for_bit(tmp_path):
    command = [sys.executable, "-m", "tests.programs.kill_test", str(tmp_path / "runs"), "--kills", "save,term"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
