"""Channel-adaptive layers in plain PyTorch: stems, batch norms, channel sampling, the classifier."""
