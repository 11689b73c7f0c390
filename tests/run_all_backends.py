"""The whole suite on TensorFlow, JAX and PyTorch, one after the other.

python -m tests.run_all_backends [pytest arguments]
"""

import os
import subprocess
import sys
import time

BACKENDS = ("tensorflow", "jax", "torch")


def main():
    """Run pytest once a backend; the process's exit status."""
    failed = []
    for backend in BACKENDS:
        print(f"\n=== KERAS_BACKEND={backend} ===", flush=True)
        start = time.monotonic()
        environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadfile", *sys.argv[1:]]
        if subprocess.run(command, env=environment, check=False).returncode:
            failed.append(backend)
        print(f"{backend}: {time.monotonic() - start:.0f} s", flush=True)
    print(f"\nfailed on: {', '.join(failed)}" if failed else f"\npassed on: {', '.join(BACKENDS)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
