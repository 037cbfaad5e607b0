"""Columnar batches, the bidirectional flow table and the records made of it. Pure: no clock, file or socket."""
