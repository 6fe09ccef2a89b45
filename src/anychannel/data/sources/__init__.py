"""Where data come from: each source lists samples, or yields them from shards; ``registry.py`` names all."""
