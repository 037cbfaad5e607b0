"""URLs of targets that flows are sent to or read from."""

import re
from urllib.parse import unquote, urlsplit

from trafficmond.dataclass import dataclass

IPFIX_SCHEMES = ("ipfix+udp", "ipfix+tcp")

_PORTS = {"ipfix+udp": 4739, "ipfix+tcp": 4739, "clickhouse": 8123, "clickhouse+https": 8443}
_DATABASE = re.compile(r"[A-Za-z_]\w{0,63}", re.ASCII)
_EXAMPLES = '"ipfix+udp://192.0.2.5:4739" or "clickhouse://192.0.2.5:8123/trafficmon"'


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed URL. `database`, `user` and `password` are for ClickHouse."""

    scheme: str
    host: str
    port: int
    database: str = "trafficmon"
    user: str = "default"
    password: str = ""

    @property
    def is_ipfix(self) -> bool:
        """Whether it is IPFIX, by UDP or TCP; else it is ClickHouse."""
        return self.scheme in IPFIX_SCHEMES

    def __str__(self) -> str:
        """The URL without user and password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        path = "" if self.is_ipfix else f"/{self.database}"
        return f"{self.scheme}://{host}:{self.port}{path}"


def parse_target(text: str) -> Target:
    """Parses a URL. Raises ValueError with a valid example."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f'"{text}" is not a valid URL ({error}), for example {_EXAMPLES}') from None
    if parts.scheme not in _PORTS or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(
            f'"{text}" is not a valid target, for example {_EXAMPLES}; the schemes are {", ".join(_PORTS)}'
        )
    path = parts.path.strip("/")
    if parts.scheme in IPFIX_SCHEMES:
        if path or parts.username is not None:
            raise ValueError(f'"{text}" has a user or a path; IPFIX has neither, as in "ipfix+udp://192.0.2.5:4739"')
        return Target(parts.scheme, parts.hostname, port or _PORTS[parts.scheme])
    if path and not _DATABASE.fullmatch(path):
        raise ValueError(f'"{path}" is not a valid name of a database; use letters, digits and underscores')
    return Target(
        parts.scheme,
        parts.hostname,
        port or _PORTS[parts.scheme],
        path or "trafficmon",
        unquote(parts.username or "default"),
        unquote(parts.password or ""),
    )


def export_url(text: str) -> str:
    """`text` if it is a target without a password. Raises ValueError."""
    if parse_target(text).password:
        raise ValueError("others may read this file, so do not write a password here; use password_file")
    return text
