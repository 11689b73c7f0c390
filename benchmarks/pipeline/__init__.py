"""Benchmark of the input pipeline: `python -m benchmarks.pipeline`."""
