"""Results as records, without torch: evaluation and training write them into a run's folder, the report reads them."""
