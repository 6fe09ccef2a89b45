"""Measurements that are not training runs of a study, and what makes these faster on a CPU."""
