"""Channel-adaptive layers in plain PyTorch: stems, subset batch norms, channel sampling, the classifier."""
