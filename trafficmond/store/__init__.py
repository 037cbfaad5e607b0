"""flows.db: one writer, partitions, retention, and the questions asked of it (docs/flows-db.md)."""
