"""One file for each format: `lacks(sample)` recognises it by its content, `read(source, stats)` yields its batches."""
