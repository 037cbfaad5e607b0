"""One file a format: `lacks(sample)` knows it by its content, `read(source, intake)` yields its batches."""
