"""Allow packets to services of this host: a short form of add-cidr --port --action allow.

Each prefix becomes a rule, as with add-cidr. A longer prefix comes before a shorter one, whichever you add first.
remove-cidr removes the rules.

Examples:
  trafficctl allow tcp/443                                  from everywhere
  trafficctl allow ssh from 192.0.2.0/24 2001:db8::/32 --save
  trafficctl allow 53,icmp/8 from 192.0.2.0/24 --ttl 1h
  trafficctl remove-cidr 192.0.2.0/24 --port ssh
"""

from trafficctl.openings import arguments, run

__all__ = ["arguments", "run"]
