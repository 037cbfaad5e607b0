"""Queries the ClickHouse server of a fleet, which [[export]] fills, in place of one host's daemon (`--from`)."""
