"""Image files to arrays: one module a format, the registry of formats, channel names, resizing."""
