"""Benchmark of one training step: time, memory and FLOPs. See `benchmarks/__main__.py`."""
