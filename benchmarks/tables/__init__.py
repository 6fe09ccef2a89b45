"""Makers of the tables in docs/ from benchmarks/results."""
