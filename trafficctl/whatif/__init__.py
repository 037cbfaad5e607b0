"""Judges recorded flows by other rules, column by column and outside the daemon, and compares the results."""
