"""One file a format: `matches(head)` knows it by its content, `read(source, intake)` yields its batches."""
