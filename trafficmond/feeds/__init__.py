"""`trafficmon-fetch`: lists from the internet, fetched by a process of its own; the daemon only reads files."""
