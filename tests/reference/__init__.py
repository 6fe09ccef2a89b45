"""Literal slow twins of fast code: loops over images, channels and positions, as the papers write them."""
