"""Helpers for all other folders: files, names, options, progress, processes."""
