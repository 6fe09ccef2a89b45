"""Data: sources, decoding, cache, statistics, batches, augmentation."""
