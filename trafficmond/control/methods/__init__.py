"""The methods of io.trafficmon, one concern a file; importing this package registers them all."""

from trafficmond.control.methods import audit, bans, explain, flows, metrics, rules, status, threats, top, watch

__all__ = ["audit", "bans", "explain", "flows", "metrics", "rules", "status", "threats", "top", "watch"]
