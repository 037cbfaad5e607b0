"""trafficctl: asks trafficmond over its control socket, and shows the answer."""
