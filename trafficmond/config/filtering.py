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
        help="For packets that no rule or list matches: allow (pass), monitor (pass, logged) or drop (logged).",
    )
    default_shadow: bool = setting(
        False, help="Count and log the packets that the default would drop, but let them pass. See rules.md, Shadow."
    )
    established: bool = setting(
        True, help="With default = drop, let replies to this host's own connections pass (needs egress = true)."
    )
    allowlist: tuple[str, ...] = setting(
        (),
        check=prefix,
        example='["192.0.2.10/32"]',
        help="Prefixes that always pass: no ban, list or rule applies to them.",
    )
    guard: bool = setting(
        True,
        help="Never drop packets of this host's own addresses, its gateways and resolvers, or of addresses from which "
        "users were logged in when the rules last changed, until these users log out. See rules.md, The guard.",
    )
    probation: float = duration(
        "0s",
        max="1h",
        help="How long a change that cuts off a logged-in user or a listening service is on probation. If nobody runs "
        "trafficctl confirm in that time, the kernel takes the change back by itself. 0s: no probation.",
    )
    drop_malformed: bool = setting(
        False, help="Drop incoming packets whose headers cannot be read. Such packets are always counted, by reason."
    )
    unparsed: str = setting(
        "drop",
        choices=("pass", "drop"),
        help="With default = drop: what happens to frames in which no address can be found, so that no rule applies: "
        "pass or drop. Protocols other than IP, such as ARP, always pass.",
    )


@dataclass(frozen=True)
class PrefixList:
    """[[list]]: a file of prefixes, one a line, or a URL to fetch them from, and the action for its prefixes."""

    path: Path | None = setting(
        None, kind=PATH, example='"cidr.d/firehol_level1.netset"', help="A file of prefixes, one on each line."
    )
    url: str = setting(
        "",
        check=feed_url,
        example='"https://iplists.firehol.org/files/firehol_level2.netset"',
        help="Instead of path: the URL from which trafficmon-fetch gets the list. Set label too. See rules.md.",
    )
    refresh: float = duration("1h", min="15m", max="30d", help="With url: how often the list is fetched.")
    url_allow: tuple[str, ...] = setting(
        (),
        choices=("http", "private", "redirect", "empty"),
        help="With url, allow also: http (without encryption), private (private and local addresses), redirect (to "
        "another URL), empty (a list without any prefix).",
    )
    action: str = setting(
        "drop", choices=("allow", "monitor", "drop"), help="What happens to the list's packets: allow, monitor or drop."
    )
    direction: str = setting(
        "ingress",
        choices=("ingress", "egress", "both"),
        help="Packets that the list is for: incoming, by source (ingress), outgoing, by destination (egress), or both.",
    )
    ports: tuple[str, ...] = setting(
        (),
        check=service,
        example='["tcp/22", "53"]',
        help="The services that the list is for, such as tcp/22. See rules.md, Services. Empty: all.",
    )
    label: str = setting(
        "", help="The list's name in logs and trafficctl. Empty: the file's name. A fetched file has this name too."
    )
    shadow: bool = setting(
        False, help="Only count and log what the list would do. The next rule or list that matches the packet decides."
    )
    on_error: str = setting(
        "skip",
        choices=("skip", "refuse"),
        help="What happens if lines of the file are not valid prefixes. skip: these lines are skipped with a warning; "
        "if they are more than half of all lines, the file is refused. refuse: the file is refused. After a refusal, "
        "the list keeps its last content. Other files are not affected.",
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
            what = 'is not encrypted: anybody on the way could change the list; use https, or url_allow = ["http"]'
            yield "url", what

    def file(self, feeds_dir: Path) -> Path:
        return self.path or feeds_dir / f"{self.label}.netset"
