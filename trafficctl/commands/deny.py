"""Drop packets to services of this host: a short form of add-cidr --port --action drop.

The rules are those of add-cidr, one for each prefix. A longer prefix comes before a shorter one, in whatever order you
add them. remove-cidr removes the rules. The guard and the allowlist still pass.

Examples:
  trafficctl deny tcp/23                                    from everywhere
  trafficctl deny ssh from 203.0.113.0/24 --save
  trafficctl remove-cidr 203.0.113.0/24 --port ssh
"""

from trafficctl.openings import arguments, run

__all__ = ["arguments", "run"]
