"""`trafficmon-notify`: sends notifications of threats, in a process of its own: the daemon needs no outgoing access."""
