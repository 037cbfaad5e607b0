"""One file a format: `lacks(sample)` knows it by its content, `read(source, stats)` yields its batches."""
