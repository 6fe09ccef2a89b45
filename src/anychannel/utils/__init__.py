"""What every other folder may use: files, names, options, progress, processes."""
