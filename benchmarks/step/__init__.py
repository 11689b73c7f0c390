"""Time, memory and FLOPs of one training step; see `__main__.py`."""
