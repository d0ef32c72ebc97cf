"""Measurements behind the numbers in docs/benchmarks.md."""
