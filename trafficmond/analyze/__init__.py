"""Offline input: logs, captures and flow records become the batches that the live engine reads, then a report."""
