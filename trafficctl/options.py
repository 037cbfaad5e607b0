"""The options that several commands have. Each is stored under the name of the parameter that the daemon gets it by."""

from argparse import ArgumentParser, Namespace
from typing import Any

from trafficctl import values

_MANY = {"type": values.prefix_or_input, "help": "an address or a prefix; - reads many from standard input"}
_SERVICES = "tcp/443, udp/8000-8100, 53 (tcp and udp), icmp/8, gre, or names of /etc/services"
_DECLARED: dict[str, dict[str, Any]] = {
    "cidr": {"metavar": "CIDR", **_MANY},
    "--since": {"metavar": "TIME", "type": values.moment, "help": "not before: 1h, 02:55, today, 2026-01-31, @EPOCH"},
    "--until": {"metavar": "TIME", "type": values.moment, "help": "not after"},
    "--limit": {"metavar": "N", "type": values.count, "help": "how many at most"},
    "--port": {
        **{"metavar": "SERVICE", "action": "extend", "type": values.services, "dest": "ports"},
        "help": f"only for {_SERVICES}",
    },
    "--ttl": {"metavar": "TIME", "type": values.lifetime, "dest": "ttl_s", "help": "how long: 30s, 10m, 1h30m, 7d"},
    "--label": {"default": "", "help": "a name for logs, flows and statistics"},
    "--save": {"action": "store_true", "help": "keep it over restarts"},
    "--force": {"action": "store_true", "help": "also for addresses that the guard or the allowlist protects"},
    "--dry-run": {"action": "store_true", "help": "change nothing; show what it would have done (what-if)"},
    "--interface": {"metavar": "NAME", "type": values.named, "help": "only this interface"},
    "--unit": {
        "metavar": "NAME",
        "type": values.named,
        "help": "only this systemd unit of this host, or units like 'nginx*'",
    },
    "--confirm-within": {
        **{"metavar": "TIME", "type": values.duration, "dest": "confirm_within_s"},
        "help": "put it on probation: it is taken back after this time unless confirmed",
    },
    "--owner": {"metavar": "NAME", "type": values.named, "help": "the owner of the bans (default: your user)"},
}


def add(parser: Any, *names: str, usual: object = None, **changed: object) -> None:
    """Adds options to a parser or a group, with other declarations where `changed`; `usual` is their default."""
    for name in names:
        declared = {**_DECLARED[name], **changed}
        if usual is not None:
            declared["help"] += f" (default {usual})"
        if isinstance(usual, int):
            declared["default"] = usual
        parser.add_argument(name, **declared)


def config(parser: ArgumentParser, text: str) -> None:
    """Adds -c, for a file in place of the usual one."""
    parser.add_argument("-c", "--config", metavar="FILE", type=values.path, help=text)


def given(args: Namespace, *names: str) -> dict[str, Any]:
    """The parameters of a call that were given, by their names; the others, and switches that are off, are None."""
    return {name: getattr(args, name) or None for name in names}
