"""Cost: parameters, operations by two conventions, memory of a training step, latency."""
