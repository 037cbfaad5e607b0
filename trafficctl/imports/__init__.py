"""Translates rules of other firewalls, if trafficmon's rules can express them."""
