"""Sends flows to IPFIX collectors and ClickHouse, and threats to ClickHouse."""
