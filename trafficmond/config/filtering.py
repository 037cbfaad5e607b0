"""The settings for filtering: the default, allowlist and guard, and lists."""

import re
from collections.abc import Iterator
from pathlib import Path

from trafficmond.config.checks import feed_url, prefix, service
from trafficmond.config.declare import PATH, duration, setting
from trafficmond.dataclass import dataclass

_FEED_LABEL = re.compile(r"[A-Za-z0-9][\w.-]{0,63}", re.ASCII)


@dataclass(frozen=True)
class Policy:
    """[policy]: what happens to traffic that no rule names, and what no rule may touch."""

    default: str = setting(
        "monitor",
        choices=("allow", "monitor", "drop"),
        help="For packets that no rule or list names: allow (pass), monitor (pass, logged) or drop (logged).",
    )
    default_shadow: bool = setting(
        False,
        help="Only log and count what the default would have dropped. Packets that no rule names pass. "
        "See docs/rules.md, shadow.",
    )
    established: bool = setting(
        True, help="Let replies to connections that this host opened pass a default of drop (needs egress)."
    )
    allowlist: tuple[str, ...] = setting(
        (),
        check=prefix,
        example='["192.0.2.10/32"]',
        help="Prefixes that always pass: no ban, list or rule applies to them.",
    )
    guard: bool = setting(
        True,
        help="Never drop what this host needs: its own addresses, gateways, resolvers, answers of DHCP, neighbour "
        "discovery, and hosts that somebody is logged in from when rules change.",
    )
    probation: float = duration(
        "0s",
        max="1h",
        help="A change that cuts off a logged-in user or a listening service is on probation for this long. Unless "
        "trafficctl confirm keeps it, the kernel then takes it back by itself. 0s: there is no probation.",
    )
    drop_malformed: bool = setting(
        False, help="Drop packets that come in with headers that cannot be read. They are counted by reason either way."
    )
    unparsed: str = setting(
        "drop",
        choices=("pass", "drop"),
        help="With default = drop: what happens to frames whose headers do not lead to an address, so that no rule can "
        "decide: drop or pass. Protocols other than IP, such as ARP, always pass.",
    )


@dataclass(frozen=True)
class PrefixList:
    """[[list]]: a file of prefixes, one a line, or a URL to fetch them from, and the action for its prefixes."""

    path: Path | None = setting(
        None, kind=PATH, example='"cidr.d/firehol_level1.netset"', help="A file of prefixes, one a line."
    )
    url: str = setting(
        "",
        check=feed_url,
        example='"https://iplists.firehol.org/files/firehol_level2.netset"',
        help="Instead of path: where trafficmon-fetch gets the list; it needs a label. See rules.md.",
    )
    refresh: float = duration("1h", min="15m", max="30d", help="With url: how often it is fetched.")
    url_allow: tuple[str, ...] = setting(
        (),
        choices=("http", "private", "redirect", "empty"),
        help="With url: allow http without encryption, private and local addresses, redirects, or a list without any "
        "prefix. By default, none of these is allowed.",
    )
    action: str = setting(
        "drop", choices=("allow", "monitor", "drop"), help="The action for its prefixes: allow, monitor or drop."
    )
    direction: str = setting(
        "ingress",
        choices=("ingress", "egress", "both"),
        help="Which packets: ingress (by source address), egress (by destination) or both.",
    )
    ports: tuple[str, ...] = setting(
        (), check=service, example='["tcp/22", "53"]', help="The services that it is for, as in a [[rule]]; empty: all."
    )
    label: str = setting(
        "", help="The name in logs and in trafficctl; empty: the file's name. With a url, its file has this name too."
    )
    shadow: bool = setting(False, help="Only count and log what it would do; the next match decides.")
    on_error: str = setting(
        "skip",
        choices=("skip", "refuse"),
        help="A line that is not a valid prefix: skip it with a warning, or refuse the new file and keep what the list "
        "last held. Other files take effect either way.",
    )

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if self.path is None and not self.url:
            yield "path", "is missing; write path, a file of prefixes, or url, where to fetch one"
        if ":/" in str(self.path):
            yield "path", "is a URL; write url instead"
        if self.path is not None and self.url:
            yield "url", "and path are both set; remove one of them"
        if self.url and not _FEED_LABEL.fullmatch(self.label):
            yield "label", "is the name of the fetched file, too; use letters, digits, dots, dashes and underscores"
        if self.url.startswith("http:") and "http" not in self.url_allow:
            yield (
                "url",
                'is not encrypted: anybody on the way could change the list; use https, or url_allow = ["http"]',
            )

    def file(self, feeds_dir: Path) -> Path:
        return self.path or feeds_dir / f"{self.label}.netset"
