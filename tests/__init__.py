"""Tests.

Keras imports these packages if they are installed, which takes a third of the start of a process. It works without them
here. Later imports of them succeed.
"""

import sys

OPTIONAL = ("matplotlib", "pandas", "sklearn")
hidden = [name for name in OPTIONAL if name not in sys.modules]
sys.modules.update(dict.fromkeys(hidden))  # importing a module that is None fails

import keras  # noqa: E402, F401

for name in hidden:
    del sys.modules[name]
