"""trafficctl: calls trafficmond over its control socket and shows the replies."""
