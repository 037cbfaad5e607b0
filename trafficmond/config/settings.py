"""Every setting of trafficmond. Declared here and nowhere else; see `declare` for what comes of a declaration."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trafficmond.config.checks import (
    DEFAULT_ROUTE,
    feed_url,
    interface_pattern,
    listen_address,
    power_of_two,
    prefix,
    service,
)
from trafficmond.config.declare import PATH, PATHS, duration, rate, setting, size, table, tables
from trafficmond.config.formats import BY_NAME, described
from trafficmond.config.target import export_url, parse_target
from trafficmond.model import SEVERITIES

CONFIG_FILE = Path("/etc/trafficmon/trafficmond.toml")
_FEED_LABEL = re.compile(r"[A-Za-z0-9][\w.-]{0,63}", re.ASCII)


@dataclass(frozen=True)
class Policy:
    """[policy]: what happens to traffic that no rule names, and what no rule may touch."""

    default: str = setting(
        "monitor",
        choices=("allow", "monitor", "drop"),
        help="What a source on no list gets: allow (pass, quiet), monitor (pass, logged) or drop (dropped, logged).",
    )
    default_shadow: bool = setting(
        False,
        help="Only say what the default would have done: what no rule names passes, logged, and what the default would "
        "have dropped is counted and told. See docs/rules.md, shadow.",
    )
    established: bool = setting(
        True, help="Let replies to connections that this host opened pass a default of drop (needs egress)."
    )
    allowlist: tuple[str, ...] = setting(
        (),
        check=prefix,
        example='["192.0.2.10/32"]',
        help="Prefixes that nothing but the guard comes before: no ban, list or rule touches them.",
    )
    guard: bool = setting(
        True,
        help="Never drop this host's own lifelines: its addresses, gateways, resolvers, DHCP, neighbour discovery, and "
        "hosts that somebody is logged in from when rules change.",
    )
    probation: float = duration(
        "0s",
        max="1h",
        help="How long a change is on probation that shuts out who is logged in, or what waits here for connections, "
        "until trafficctl confirm: then the kernel takes it back by itself. 0s: it is in force at once.",
    )
    drop_malformed: bool = setting(
        False, help="Drop packets whose headers cannot be read. They are counted by reason either way."
    )
    unparsed: str = setting(
        "drop",
        choices=("pass", "drop"),
        help="What a default of drop does with frames that cannot be judged, as their headers cannot be followed to an "
        "address: drop or pass. Other protocols than IP, such as ARP, always pass.",
    )


@dataclass(frozen=True)
class PrefixList:
    """[[list]]: a file of prefixes, one a line, or a URL to fetch them from, and what its members get."""

    path: Path | None = setting(
        None, kind=PATH, example='"cidr.d/firehol_level1.netset"', help="A file of prefixes, one a line."
    )
    url: str = setting(
        "",
        check=feed_url,
        example='"https://iplists.firehol.org/files/firehol_level2.netset"',
        help="Instead of path: where trafficmon-fetch gets the list; it needs a label. See rules.md.",
    )
    refresh: float = duration("1h", min="15m", max="30d", help="With url: how often it is asked for.")
    url_allow: tuple[str, ...] = setting(
        (),
        choices=("http", "private", "redirect"),
        help="With url: allow http without encryption, private and local addresses, or redirects; none is otherwise.",
    )
    action: str = setting(
        "drop", choices=("allow", "monitor", "drop"), help="What a member gets: allow, monitor or drop."
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
        "", help="The name in logs and in trafficctl; empty: the file's name. With url also the file's."
    )
    shadow: bool = setting(False, help="Only say what it would have done; what lies beneath decides.")
    on_error: str = setting(
        "skip",
        choices=("skip", "refuse"),
        help="A line that is no prefix: skip it with a warning, or refuse the new file and keep what the list last "
        "held. Either way all else goes on.",
    )

    def mistakes(self) -> Iterator[tuple[str, str]]:
        """What does not hold between these settings."""
        if self.path is None and not self.url:
            yield "path", "is missing; write path, a file of prefixes, or url, where to fetch one"
        if self.path is not None and self.url:
            yield "url", "and path: a list has one of them"
        if self.url and not _FEED_LABEL.fullmatch(self.label):
            yield "label", "is the name of the fetched file, too; use letters, digits, dots, dashes and underscores"
        if self.url.startswith("http:") and "http" not in self.url_allow:
            yield (
                "url",
                'is not encrypted: anybody on the way could change the list; use https, or url_allow = ["http"]',
            )

    def file(self, feeds_dir: Path) -> Path:
        """Where its prefixes are."""
        return self.path or feeds_dir / f"{self.label}.netset"


@dataclass(frozen=True)
class Flows:
    """[flows]: how packets become flows."""

    interval: float = duration("1s", min="50ms", max="1m", help="How often the kernel's ledger is read.")
    idle_timeout: float = duration(
        "30s",
        min="1s",
        max="1h",
        help="A flow without packets for this long is written to the store; unless it is a conversation that may go on "
        "(an open TCP connection, datagrams that were answered), it has ended.",
    )
    active_timeout: float = duration(
        "5m", min="1s", max="1d", help="A flow that lasts is written to the store this often."
    )
    # bound: ledger, a CPU | the smaller record moves to the ring
    capacity: int = setting(
        65536,
        min=1024,
        max=1 << 22,
        check=power_of_two,
        help="Slots of the kernel's ledger on each CPU, a power of two; a slot takes 160 bytes.",
        restart=True,
    )
    # bound: flows that the daemon follows | the idlest end early; they are stored
    table_capacity: int = setting(
        262144, min=1024, max=1 << 24, help="Flows that the daemon follows at once; beyond it the idlest end early."
    )
    look_inside: bool = setting(
        False,
        help="Tell apart what VXLAN, Geneve, GRE, ERSPAN and IP-in-IP tunnels carry: the flow is the outer one and is "
        "judged as ever, columns of flows.db name the inner one.",
        restart=True,
    )

    units: bool = setting(
        True,
        help="Tell which systemd unit (or other cgroup) of this host each flow is of. Who may read flows.db may read "
        "it too.",
        restart=True,
    )

    def mistakes(self) -> Iterator[tuple[str, str]]:
        """What does not hold between these settings."""
        if self.idle_timeout < 2 * self.interval:
            yield "idle_timeout", "is too short for flows.interval; use at least twice the interval"
        if self.active_timeout < self.interval:
            yield "active_timeout", "is shorter than flows.interval; use at least the interval"


@dataclass(frozen=True)
class Store:
    """[store]: how much history flows.db keeps."""

    # bound: age of `flows.db` | the oldest partition goes
    max_age: float = duration("30d", min="1h", help="Flows older than this are removed.")
    # bound: size of `flows.db` | the oldest partition goes
    max_size: int = size("2GiB", min="16MiB", help="The oldest flows are removed when flows.db is larger than this.")


@dataclass(frozen=True)
class Log:
    """[[log]]: one place that events are written to; as many as wanted."""

    format: str = setting(
        "journal",
        choices=tuple(BY_NAME),
        help=f"How events are written: {described()}.",
    )
    path: Path | None = setting(
        None,
        kind=PATH,
        example='"/var/log/trafficmon/traffic.jsonl"',
        help="The file to write to; not set: standard output. The journal needs none.",
    )
    # bound: events that wait for a log | lost, counted, shown by `status`
    buffer_size: int = setting(
        8192, min=1, max=1 << 22, help="Events held while the disk is slow; beyond it they are lost and counted."
    )
    rotate_size: int = size("100MiB", help="Start a new file at this size; 0 never does (logrotate and SIGUSR1 will).")
    max_files: int = setting(10, min=0, max=10000, help="Rotated files to keep; 0 keeps none.")
    compress: bool = setting(True, help="Compress rotated files with gzip.")
    actions: tuple[str, ...] = setting(
        ("monitor", "drop"), choices=("monitor", "drop"), help="Write only events with one of these actions."
    )
    prefixes: tuple[str, ...] = setting(
        (),
        check=prefix,
        example='["203.0.113.0/24"]',
        help="Write only events and threats with an address in one of these; empty: all.",
    )
    min_severity: str = setting(
        "low",
        choices=(*SEVERITIES, "none"),
        help="Write threats of this severity and above; none writes no threats. csv holds events only.",
    )
    max_rate: float = rate("0/s", help="Events a second to write, on average; of more, an even sample; 0/s: all.")

    def mistakes(self) -> Iterator[tuple[str, str]]:
        """What does not hold between these settings."""
        if self.format == "journal" and self.path is not None:
            yield "path", 'the journal has no path; remove it, or use format = "jsonl"'


# What the journal of a host can bear beside everybody else's entries: no conversations, and of drops a sample.
SHIPPED_LOG = Log(actions=("drop",), max_rate=1.0)


@dataclass(frozen=True)
class Response:
    """[response]: what the daemon does about a threat."""

    ban: str = setting(
        "off",
        choices=("off", "shadow", "on"),
        help="on (or true) bans the source of a threat; shadow only says what it would have banned; off (or false).",
    )
    min_severity: str = setting("high", choices=SEVERITIES, help="Act on threats of this severity and above.")
    ban_time: float = duration("10m", min="1s", help="Length of a first ban; doubles with each return.")
    max_ban_time: float = duration("7d", min="1s", help="The longest ban.")
    neighbours: int = setting(
        8, min=0, max=256, help="This many bans in one IPv4 /24 or IPv6 /64 become a ban of the whole; 0 never."
    )

    def mistakes(self) -> Iterator[tuple[str, str]]:
        """What does not hold between these settings."""
        if self.max_ban_time < self.ban_time:
            yield "max_ban_time", "is shorter than response.ban_time; make it at least as long"


@dataclass(frozen=True)
class Geo:
    """[geo]: databases that say in which country and network an address is."""

    databases: tuple[Path, ...] = setting(
        (),
        kind=PATHS,
        example='["/var/lib/GeoIP/GeoLite2-Country.mmdb"]',
        help="Files in MaxMind's format (.mmdb) of countries and autonomous systems, for columns, groups and rules; of "
        "each kind the first that has it counts.",
    )


@dataclass(frozen=True)
class Quota:
    """[[quota]]: how much may go up and come down; a threat of low severity tells when most of it is used."""

    volume: int = size("1TiB", min="1MiB", help="How much there is.")
    period: str = setting("month", choices=("day", "month"), help="For how long: a day or a month, in local time.")
    counts: str = setting("both", choices=("both", "up", "down"), help="What counts: what goes out, comes in, or both.")
    interface: str = setting("", help="Of this interface alone; empty: of all that are watched.")
    unit: str = setting("", help="Of this systemd unit alone; empty: of all.")
    share: float = setting(0.8, min=0.01, max=1.0, help="Tell when so much of it is used; and when all is.")
    label: str = setting("", help="What it is called in threats; empty: by what it is of.")

    def mistakes(self) -> Iterator[tuple[str, str]]:
        """What does not hold between these settings."""
        if self.interface and self.unit:
            yield "unit", "goes without interface: sums are of one or the other; give each a [[quota]] of its own"


@dataclass(frozen=True)
class Metrics:
    """[metrics]: OpenMetrics text over HTTP."""

    listen: str = setting(
        "",
        check=listen_address,
        example='"127.0.0.1:9177"',
        help="Address and port to serve GET /metrics at; empty: off.",
    )


@dataclass(frozen=True)
class Export:
    """[[export]]: one place outside this host that flows are sent to; as many as wanted."""

    to: str = setting(
        "",
        required=True,
        check=export_url,
        example='"ipfix+udp://192.0.2.5:4739"',
        help="Where: ipfix+udp://HOST:PORT, ipfix+tcp://HOST:PORT, clickhouse://USER@HOST:PORT/DATABASE or "
        "clickhouse+https://USER@HOST:PORT/DATABASE.",
    )
    # bound: flows that wait for an export | lost, counted, shown by `status`
    buffer_rows: int = setting(
        65536, min=1024, max=1 << 22, help="Flows held while the target is slow; beyond it they are lost and counted."
    )
    sensor: str = setting("", help="ClickHouse: what this host is called there; empty: its host name.")
    password_file: Path | None = setting(
        None,
        kind=PATH,
        example='"/etc/trafficmon/clickhouse.password"',
        help="ClickHouse: a file whose first line is the user's password; not set: no password.",
    )
    batch_interval: float = duration(
        "5s", min="100ms", max="1h", help="ClickHouse: flows are collected for this long, or until they fill a batch."
    )
    spool_size: int = size(
        "256MiB",
        min="1MiB",
        help="ClickHouse: what may wait in state_dir while the server is away; beyond it the buffer fills.",
    )
    biflow: bool = setting(
        False,
        help="IPFIX: both directions of a flow in one record (RFC 5103). nfdump reads such; a collector that does not "
        "would miss the replies.",
    )
    mtu: int = setting(
        1500, min=576, max=65535, help="IPFIX over UDP: the path's MTU in bytes; messages are made to fit."
    )
    template_interval: float = duration(
        "1m", min="1s", max="1h", help="IPFIX over UDP: templates are sent again this often (RFC 7011 section 8.4)."
    )
    max_rate: float = rate(
        "2000/s",
        min="1/s",
        help="IPFIX over UDP: messages a second; a faster burst overflows a collector's socket unnoticed.",
    )
    observation_domain: int = setting(
        1, min=0, max=(1 << 32) - 1, help="IPFIX: the observation domain id; one for each exporter at an address."
    )


@dataclass(frozen=True)
class Settings:
    """Everything trafficmond can be told. Times in seconds, sizes in bytes, paths absolute."""

    interfaces: tuple[str, ...] = setting(
        (DEFAULT_ROUTE,),
        check=interface_pattern,
        example='["eth0", "wl*", "/^en.+$/"]',
        help="Interfaces to watch: names, globs, /regexes/, or default-route for those that default routes use. "
        "lo is watched only where it is named.",
    )
    xdp_mode: str = setting(
        "auto",
        choices=("auto", "native", "skb"),
        help="XDP in the driver (native), in the generic path (skb), or native where the driver can (auto).",
        restart=True,
    )
    loader: str = setting(
        "auto",
        choices=("auto", "libbpf", "bcc"),
        help="What loads the programs: libbpf (compiled ahead), bcc (compiled on start), or the first that works.",
        restart=True,
    )
    egress: bool = setting(True, help="Watch outgoing packets as well.", restart=True)
    networks: tuple[str, ...] = setting(
        (),
        check=prefix,
        example='["198.51.100.0/24"]',
        help="Networks that are ours, beside private addresses and this host's own: whose hosts can be beacons.",
    )
    control_socket: Path = setting(
        Path("/run/trafficmon/io.trafficmon"), help="The Unix socket that trafficctl talks to.", restart=True
    )
    state_dir: Path = setting(
        Path("/var/lib/trafficmon"), help="Where flows.db and the daemon's own rules live.", restart=True
    )
    cidr_dir: Path = setting(
        Path("/etc/trafficmon/cidr.d"), help="Rules (*.toml, *.json) and lists; changes there take effect at once."
    )
    feeds_dir: Path = setting(
        Path("/var/lib/trafficmon-fetch"), help="Where trafficmon-fetch keeps the lists that it has fetched."
    )
    pin_dir: Path = setting(
        Path("/sys/fs/bpf/trafficmon"),
        help="Where the programs stay pinned while the daemon restarts (a bpffs).",
        restart=True,
    )
    on_stop: str = setting(
        "detach", choices=("detach", "keep"), help="On stop, detach the programs or keep filtering without the daemon."
    )
    policy: Policy = table(Policy, "policy", help="Traffic that no rule names, and what no rule may touch.")
    lists: tuple[PrefixList, ...] = tables(
        PrefixList, "list", help="A file of prefixes (*.netset, *.ipset, *.txt), or a URL, and what its members get."
    )
    flows: Flows = table(Flows, "flows", help="How packets become flows.")
    store: Store = table(Store, "store", help="How much history flows.db keeps.")
    logs: tuple[Log, ...] = tables(
        Log,
        "log",
        default=(SHIPPED_LOG,),
        help="Where events and threats are written; several at once. Without any, the journal gets threats and a "
        "sample of what is dropped (1/s).",
    )
    response: Response = table(Response, "response", help="What the daemon does about a threat.")
    geo: Geo = table(Geo, "geo", help="Where addresses are: databases of countries and networks.")
    quotas: tuple[Quota, ...] = tables(
        Quota, "quota", help="How much may go up and come down in a month or a day; threats tell, nothing is stopped."
    )
    metrics: Metrics = table(Metrics, "metrics", help="OpenMetrics for Prometheus.")
    exports: tuple[Export, ...] = tables(
        Export, "export", help="Where flows are sent to besides flows.db: IPFIX collectors, ClickHouse. See export.md."
    )

    # Not settings of the file's top level, but of its source:
    detect: Mapping[str, Any] = field(default_factory=dict)  # detector name -> its own Settings
    permitted_cidrs: tuple[str, ...] = ()  # of the original's JSON: allow rules of their own
    source: Path | None = None  # the file read, None where there was none
    verbose: bool = False

    def mistakes(self) -> Iterator[tuple[str, str]]:
        """What does not hold between these settings."""
        if not self.interfaces:
            yield "interfaces", f'is empty; name an interface, or use ["{DEFAULT_ROUTE}"]'
        if self.policy.default == "drop" and self.policy.established and not self.egress:
            what = "needs egress = true to know what this host opened; or set it to false, and replies are dropped too"
            yield "policy.established", what
        labels: set[str] = set()
        for i, each in enumerate(self.lists):
            if each.url and each.label in labels:
                yield f"list[{i}].label", f"another [[list]] with a url is called {each.label}; give each its own"
            labels.update((each.label,) if each.url else ())
        targets: set[Path | None] = set()
        for i, log in enumerate(self.logs):
            if log.format != "journal" and log.path in targets:
                yield f"log[{i}].path", f"another [[log]] writes to {log.path or 'standard output'}; give each its own"
            targets.update(() if log.format == "journal" else (log.path,))
        sent: set[str] = set()
        for i, export in enumerate(self.exports):
            target = str(parse_target(export.to))
            if target in sent:
                yield f"export[{i}].to", f"another [[export]] sends to {target}; every flow would be there twice"
            sent.add(target)
