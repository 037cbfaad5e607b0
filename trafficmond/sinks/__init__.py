"""Where events, threats and the daemon's own messages go: one file a format, a thread and a bounded queue each."""
