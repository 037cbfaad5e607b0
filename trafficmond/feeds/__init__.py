"""`trafficmon-fetch`: a process that fetches lists from the internet. The daemon only reads the files."""
