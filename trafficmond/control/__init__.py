"""The control socket: a Varlink server, the methods it serves, and the client that trafficctl uses."""
