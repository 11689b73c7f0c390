import os
import signal
import subprocess
import sys

import pytest

from keras_siamim.runs.lock import FolderLock

pytestmark = pytest.mark.one_backend

HOLD = """
import fcntl, sys, time
file = open(sys.argv[1] + "/lock", "a+")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


def test_one_process_holds_the_lock_until_it_is_killed(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError, match=f"one process only.*{tmp_path.name}"), FolderLock(tmp_path):
            pass
        os.kill(holder.pid, signal.SIGKILL)
    with FolderLock(tmp_path):
        assert str(os.getpid()) in (tmp_path / "lock").read_text()
        with pytest.raises(BlockingIOError, match=str(os.getpid())), FolderLock(tmp_path):
            pass
    with FolderLock(tmp_path):
        pass
