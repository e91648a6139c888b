"""Benchmarks on a GPU: routing kernels side by side, and whole servers of several trees."""
