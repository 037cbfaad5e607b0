"""Metrics of the daemon: their values, their text form, and the HTTP server."""
