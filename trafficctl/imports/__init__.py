"""Other firewalls' rules -> rules of ours, as far as they can be said."""
