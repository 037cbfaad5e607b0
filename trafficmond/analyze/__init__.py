"""Offline input: turns logs, captures and flow records into the batches of the live engine, then into a report."""
