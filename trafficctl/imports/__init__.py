"""Other firewalls' rules -> rules of ours, as far as ours can express them."""
