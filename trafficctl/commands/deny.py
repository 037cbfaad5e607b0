"""Drop packets to services of this host: a short form of add-cidr --port --action drop.

Each prefix becomes a rule, as with add-cidr. A longer prefix comes before a shorter one, whichever you add first.
remove-cidr removes the rules. Addresses of the guard and the allowlist still pass.

Examples:
  trafficctl deny tcp/23                                    from everywhere
  trafficctl deny ssh from 203.0.113.0/24 --save
  trafficctl remove-cidr 203.0.113.0/24 --port ssh
"""

from trafficctl.openings import arguments, run

__all__ = ["arguments", "run"]
