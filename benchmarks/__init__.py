"""Measurements of what the package costs; see docs/benchmarks.md."""
