"""Results as records, without torch: evaluation and training write them into a run's folder, the report reads them.

``evaluation`` holds what was measured on each subset, ``gap`` and ``cost`` the comparisons and costs, ``run`` a whole
run's folder.
"""
