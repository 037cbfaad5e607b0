"""Offline input: turns logs, captures and flow records into the batches that the live engine reads, then into a
report."""
