"""What leaves the host: reports of flows to IPFIX collectors and ClickHouse."""
