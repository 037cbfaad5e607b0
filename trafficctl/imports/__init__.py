"""Translates rules of other firewalls, as far as rules of ours can express them."""
