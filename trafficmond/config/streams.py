"""The settings for output: logs, metrics and exports."""

from collections.abc import Iterator
from pathlib import Path

from trafficmond.config.checks import listen_address, prefix
from trafficmond.config.declare import PATH, duration, rate, setting, size
from trafficmond.config.formats import BY_NAME, described
from trafficmond.config.target import export_url
from trafficmond.dataclass import dataclass
from trafficmond.model import SEVERITIES


@dataclass(frozen=True)
class Log:
    """[[log]]: one place that events are written to; as many as wanted."""

    format: str = setting("journal", choices=tuple(BY_NAME), help=f"How events are written: {described()}.")
    path: Path | None = setting(
        None,
        kind=PATH,
        example='"/var/log/trafficmon/traffic.jsonl"',
        help="The file to write to. Not set: standard output. The format journal has no path.",
    )
    # bound: events that wait for a log | further events are lost and counted; `status` shows them
    buffer_size: int = setting(
        8192, min=1, max=1 << 22, help="How many events can wait for a slow disk. Further events are lost and counted."
    )
    rotate_size: int = size("100MiB", help="Start a new file at this size. 0: never, so that logrotate can rotate.")
    max_files: int = setting(10, min=0, max=10000, help="How many rotated files are kept. 0: none.")
    compress: bool = setting(True, help="Compress rotated files with gzip.")
    actions: tuple[str, ...] = setting(
        ("monitor", "drop"), choices=("monitor", "drop"), help="Write only events with one of these actions."
    )
    prefixes: tuple[str, ...] = setting(
        (),
        check=prefix,
        example='["203.0.113.0/24"]',
        help="Write only events and threats with an address in one of these prefixes. Empty: all.",
    )
    min_severity: str = setting(
        "low",
        choices=(*SEVERITIES, "none"),
        help='Write threats of this severity and above. With "none", no threats are written. A csv log has no threats.',
    )
    max_rate: float = rate(
        "0/s", help="How many events are written on average. Of more events, an even sample is written. 0/s: all."
    )

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if self.format == "journal" and self.path is not None:
            yield "path", 'the journal has no path; remove it, or use format = "jsonl"'


# Little enough for the journal of a host: no monitored connections, and only a sample of drops.
SHIPPED_LOG = Log(actions=("drop",), max_rate=1.0)


@dataclass(frozen=True)
class Metrics:
    """[metrics]: OpenMetrics text over HTTP."""

    listen: str = setting(
        "",
        check=listen_address,
        example='"127.0.0.1:9177"',
        help="The address and port at which GET /metrics is served. Empty: off.",
    )


@dataclass(frozen=True)
class Export:
    """[[export]]: one place outside this host that flows, and to ClickHouse threats, are sent to; as many as wanted."""

    to: str = setting(
        "",
        required=True,
        check=export_url,
        example='"ipfix+udp://192.0.2.5:4739"',
        help="The target: ipfix+udp://HOST:PORT, ipfix+tcp://HOST:PORT, clickhouse://USER@HOST:PORT/DATABASE or "
        "clickhouse+https://USER@HOST:PORT/DATABASE.",
    )
    # bound: flows that wait for an export | further flows are lost and counted; `status` shows them
    buffer_rows: int = setting(
        65536, min=1024, max=1 << 22, help="How many flows can wait for a slow target. Others are lost and counted."
    )
    sensor: str = setting("", help="ClickHouse: the name of this host there. Empty: its host name.")
    password_file: Path | None = setting(
        None,
        kind=PATH,
        example='"/etc/trafficmon/clickhouse.password"',
        help="ClickHouse: a file whose first line is the user's password. Not set: no password.",
    )
    batch_interval: float = duration(
        "5s", min="100ms", max="1h", help="ClickHouse: how long a batch collects flows. A full batch is sent earlier."
    )
    spool_size: int = size(
        "256MiB",
        min="1MiB",
        help="ClickHouse: how much disk space in state_dir flows can take while they wait for the server. Further "
        "flows wait in memory (buffer_rows).",
    )
    biflow: bool = setting(
        False,
        help="IPFIX: send both directions of a flow in one record (RFC 5103). nfdump reads such records. A collector "
        "that cannot read such records misses the replies.",
    )
    mtu: int = setting(1500, min=576, max=65535, help="IPFIX over UDP: the path's MTU in bytes. No message is larger.")
    template_interval: float = duration(
        "1m", min="1s", max="1h", help="IPFIX over UDP: how often the templates are sent again (RFC 7011 section 8.4)."
    )
    max_rate: float = rate(
        "2000/s",
        min="1/s",
        help="IPFIX over UDP: the highest rate of messages. Others wait, since a collector may lose a faster burst.",
    )
    observation_domain: int = setting(
        1, min=0, max=2**32 - 1, help="IPFIX: the observation domain id. Exporters at one address need different ids."
    )
