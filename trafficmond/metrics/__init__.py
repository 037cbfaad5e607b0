"""Metrics of the daemon: what they are, as text, and over HTTP."""
