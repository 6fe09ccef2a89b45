"""anychannel: image classifiers that keep working whichever channels arrive."""

__version__ = "0.1.0"
