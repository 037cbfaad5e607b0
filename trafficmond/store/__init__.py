"""flows.db: one writer, partitions, retention, and the questions asked of it (docs/flows-db.md)."""

from trafficmond.store.records import Ban, Change
from trafficmond.store.store import Status, Store
from trafficmond.store.writer import Limits

__all__ = ["Ban", "Change", "Limits", "Status", "Store"]
