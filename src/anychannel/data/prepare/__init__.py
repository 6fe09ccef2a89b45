"""What is done once for every source before training: names, labels, digests, statistics, checks, the cache."""
