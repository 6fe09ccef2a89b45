"""Studies: the queue that runs them, other measurements, and the tables of docs/ made from their results.

Run everything from the repository's root, as ``python -m benchmarks.tables.report``.
"""
