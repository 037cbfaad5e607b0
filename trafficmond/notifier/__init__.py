"""`trafficmon-notify`: tells people of threats, in a process of its own, so that the daemon needs no way out."""
