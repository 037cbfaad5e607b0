"""The second loader, which compiles the data path on this host."""
