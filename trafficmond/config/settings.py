"""All settings of trafficmond, with those in `filtering` and `streams`. `declare` explains their declarations."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from trafficmond.config.checks import DEFAULT_ROUTE, interface_pattern, power_of_two, prefix
from trafficmond.config.declare import PATHS, duration, setting, size, table, tables
from trafficmond.config.filtering import Policy, PrefixList
from trafficmond.config.streams import SHIPPED_LOG, Export, Log, Metrics
from trafficmond.config.target import parse_target
from trafficmond.dataclass import dataclass, field
from trafficmond.model import SEVERITIES

CONFIG_FILE = Path("/etc/trafficmon/trafficmond.toml")

XdpModeSetting = Literal["auto", "native", "skb"]
"""In the driver (native), in the generic path (skb), or native where the driver can (auto); the kernels that each needs
are at `datapath.interfaces.XdpMode`."""


@dataclass(frozen=True)
class Flows:
    """[flows]: how packets become flows."""

    interval: float = duration("1s", min="50ms", max="1m", help="How often the daemon reads the kernel's flow records.")
    idle_timeout: float = duration(
        "30s",
        min="1s",
        max="1h",
        help="A flow without packets for this long is written to flows.db. Then the flow ends, unless it is an open "
        "TCP connection or has datagrams that were answered.",
    )
    active_timeout: float = duration(
        "5m", min="1s", max="1d", help="How often a flow that continues is written to flows.db."
    )
    # bound: flow records of the ledger, for each CPU | a record moves to the eviction ring (below)
    capacity: int = setting(
        65536,
        min=1024,
        max=1 << 22,
        check=power_of_two,
        help="How many flow records the ledger has for each CPU: a power of two. A record takes 160 bytes.",
        restart=True,
    )
    # bound: flows that the daemon follows | unanswered flows and those idle longest end early; they are stored
    table_capacity: int = setting(
        262144, min=1024, max=1 << 24, help="How many flows are followed at once. With more, idle flows end early."
    )
    look_inside: bool = setting(
        False,
        help="Store the connections inside VXLAN, Geneve, GRE, ERSPAN and IP-in-IP tunnels, in columns of flows.db. "
        "Rules match the outer header of a tunnel in any case.",
        restart=True,
    )
    units: bool = setting(
        True,
        help="Store which systemd unit (or other cgroup) of this host sent or received each flow. Everyone who can "
        "read flows.db can read the unit.",
        restart=True,
    )
    dns_names: bool = setting(
        False,
        help="Read the DNS answers to this host, so that trafficctl --names shows the names that this host asked for. "
        "The names are kept in memory only, for a day. Everyone who can use trafficctl can see them.",
        restart=True,
    )
    processes: bool = setting(
        False,
        help="Store which process of this host each flow belongs to: its number and its command's short name, without "
        "arguments. Everyone who can read flows.db can read both.",
        restart=True,
    )

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if self.processes and not self.units:
            yield "processes", "needs flows.units = true: a process is shown with its unit; or set processes = false"
        if self.idle_timeout < 2 * self.interval:
            yield "idle_timeout", "is too short for flows.interval; use at least twice the interval"
        if self.active_timeout < self.interval:
            yield "active_timeout", "is shorter than flows.interval; use at least the interval"


@dataclass(frozen=True)
class Store:
    """[store]: how much history flows.db keeps."""

    # bound: age of the history in `flows.db` | the oldest partition is deleted
    max_age: float = duration("30d", min="1h", help="Flows older than this are removed.")
    # bound: size of `flows.db` | the oldest partition is deleted
    max_size: int = size("2GiB", min="16MiB", help="The oldest flows are removed when flows.db is larger than this.")


@dataclass(frozen=True)
class Response:
    """[response]: what the daemon does about a threat."""

    ban: str = setting(
        "off",
        choices=("off", "shadow", "on"),
        help="on (or true): ban sources of threats. shadow: only log what would be banned. off (or false): no bans.",
    )
    min_severity: str = setting(
        "high",
        choices=SEVERITIES,
        help="Ban only for threats of this severity and above. Ordinary programs cause threats of low severity too.",
    )
    ban_time: float = duration("10m", min="1s", help="How long a source's first ban lasts. Further bans double it.")
    max_ban_time: float = duration("7d", min="1s", help="How long a ban lasts at most.")
    neighbours: int = setting(
        8,
        min=0,
        max=256,
        help="If so many addresses of a /24 (IPv6: /64, NAT64: /120) are banned at once, it is banned whole. 0: never.",
    )

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if self.max_ban_time < self.ban_time:
            yield "max_ban_time", "is shorter than response.ban_time; make it at least as long"


@dataclass(frozen=True)
class Geo:
    """[geo]: databases that say in which country and network an address is."""

    databases: tuple[Path, ...] = setting(
        (),
        kind=PATHS,
        example='["/var/lib/GeoIP/GeoLite2-Country.mmdb"]',
        help="Files in MaxMind's format (.mmdb). With them, trafficctl can show and group by country or autonomous "
        "system, and rules can name these. If several files have countries (or autonomous systems), the first is used.",
    )


@dataclass(frozen=True)
class Quota:
    """[[quota]]: how many bytes may go up and down; a threat of low severity reports when most of them are used."""

    volume: int = size("1TiB", min="1MiB", help="How many bytes may be used in a period.")
    period: str = setting("month", choices=("day", "month"), help="The period: a day or a month, in local time.")
    counts: str = setting(
        "both", choices=("both", "up", "down"), help="Which bytes count: sent (up), received (down), or both."
    )
    interface: str = setting("", help="Count only this interface. Empty: all watched interfaces.")
    unit: str = setting("", help="Count only this systemd unit. Empty: all.")
    share: float = setting(
        0.8, min=0.01, max=1.0, help="A threat opens when this share of volume is used, another when all is used."
    )
    label: str = setting("", help="The quota's name in threats. Empty: the interface or unit.")

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if self.interface and self.unit:
            yield "unit", "cannot be set with interface: totals are by one or the other; write a [[quota]] for each"


@dataclass(frozen=True)
class PerInterface:
    """[[interface]]: what is otherwise on some of the interfaces that are watched."""

    name: str = setting(
        "",
        check=interface_pattern,
        required=True,
        example='"eth0"',
        help="The interfaces that these settings are for: a name, a glob or a /regex/.",
        restart=True,
    )
    xdp_share: str = setting(
        "off",
        choices=("off", "libxdp"),
        help="libxdp: trafficmon shares the interface with other XDP programs, through libxdp's dispatcher (package "
        "xdp-tools). off: no other XDP program can run on it, which costs less CPU time.",
        restart=True,
    )


@dataclass(frozen=True)
class Settings:
    """All settings of trafficmond. Times in seconds, sizes in bytes, paths absolute."""

    interfaces: tuple[str, ...] = setting(
        (DEFAULT_ROUTE,),
        check=interface_pattern,
        example='["eth0", "wl*", "/^en.+$/"]',
        help="Interfaces to watch: names, globs, /regexes/, or default-route (the interfaces of the default routes). "
        "The interface lo is watched only if its full name is given.",
    )
    xdp_mode: XdpModeSetting = setting(
        "auto",
        choices=get_args(XdpModeSetting),
        help="Where XDP runs: in the driver (native), after the driver (skb), or auto: native if possible, else skb.",
        restart=True,
    )
    loader: str = setting(
        "auto",
        choices=("auto", "libbpf", "bcc"),
        help="What loads the programs: libbpf (precompiled), bcc (compiles at start), or auto: the first that works.",
        restart=True,
    )
    egress: bool = setting(True, help="Watch outgoing packets too.", restart=True)
    networks: tuple[str, ...] = setting(
        (),
        check=prefix,
        example='["198.51.100.0/24"]',
        help="Your networks, besides private ones and this host's. Some detectors watch only hosts in your networks.",
    )
    control_socket: Path = setting(
        Path("/run/trafficmon/io.trafficmon"), help="The Unix socket that trafficctl talks to.", restart=True
    )
    state_dir: Path = setting(
        Path("/var/lib/trafficmon"), help="The folder of flows.db and of the rules that trafficctl saves.", restart=True
    )
    cidr_dir: Path = setting(
        Path("/etc/trafficmon/cidr.d"), help="The folder of rules (*.toml, *.json) and lists. Changes apply at once."
    )
    feeds_dir: Path = setting(
        Path("/var/lib/trafficmon-fetch"), help="The folder of the lists that trafficmon-fetch has fetched."
    )
    pin_dir: Path = setting(
        Path("/sys/fs/bpf/trafficmon"),
        help="The folder of a bpffs in which the kernel programs stay pinned while the daemon restarts.",
        restart=True,
    )
    on_stop: str = setting(
        "detach", choices=("detach", "keep"), help="When the daemon stops: detach its programs, or leave them attached."
    )
    policy: Policy = table(
        Policy, "policy", help="What happens to traffic that no rule matches, and which addresses no rule can drop."
    )
    lists: tuple[PrefixList, ...] = tables(
        PrefixList,
        "list",
        help="A list of prefixes from a file (*.netset, *.ipset, *.txt) or a URL, and what happens to their packets.",
    )
    flows: Flows = table(Flows, "flows", help="How packets become flows.")
    store: Store = table(Store, "store", help="How much history flows.db keeps.")
    logs: tuple[Log, ...] = tables(
        Log,
        "log",
        default=(SHIPPED_LOG,),
        help="A place where events and threats are written; there may be several. If there is no [[log]], the journal "
        "gets threats and a sample of the dropped packets (one a second).",
    )
    response: Response = table(Response, "response", help="What the daemon does about a threat.")
    geo: Geo = table(Geo, "geo", help="Databases of countries and autonomous systems.")
    quotas: tuple[Quota, ...] = tables(
        Quota, "quota", help="How many bytes may be sent and received in a month or day. More is reported, not blocked."
    )
    per_interface: tuple[PerInterface, ...] = tables(
        PerInterface, "interface", help="Settings for some of the watched interfaces."
    )
    metrics: Metrics = table(Metrics, "metrics", help="Metrics over HTTP, for Prometheus.")
    exports: tuple[Export, ...] = tables(
        Export,
        "export",
        help="A place that flows are sent to: an IPFIX collector, or ClickHouse (also gets threats). See export.md.",
    )

    # Not settings of the file's top level:
    detect: Mapping[str, Any] = field(default_factory=dict)  # detector name -> its own Settings
    permitted_cidrs: tuple[str, ...] = ()  # of the original's JSON, which become allow rules
    source: Path | None = None  # the file; None: there was none
    verbose: bool = False

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if not self.interfaces:
            yield "interfaces", f'is empty; name an interface, or use ["{DEFAULT_ROUTE}"]'
        if self.policy.default == "drop" and self.policy.established and not self.egress:
            what = "needs egress = true to see this host's connections; or set established = false, which drops replies"
            yield "policy.established", what
        if self.flows.processes and not self.egress:
            yield "flows.processes", "needs egress = true to see what this host sends; or set processes = false"
        if self.flows.dns_names and not self.egress:
            yield "flows.dns_names", "needs egress = true to see what this host asks; or set dns_names = false"
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
