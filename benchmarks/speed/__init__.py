"""The rows of the speed benchmark; ``python -m benchmarks.measure.speed`` measures them."""
