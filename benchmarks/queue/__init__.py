"""Runs studies."""
