"""Sinks write events, threats and messages: one module per format, each sink with a thread and a bounded queue."""
