"""Fetches a list by HTTP: conditionally, with limits of size and time, by default from public addresses over TLS."""

import base64
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Collection
from functools import partial
from urllib.parse import unquote, urljoin, urlsplit

from trafficmond import __version__
from trafficmond.dataclass import dataclass
from trafficmond.figures import plain
from trafficmond.urls import hidden

# bound: a fetched list | the list is refused; the last fetched one stays
MOST_BYTES = 64 << 20
DEADLINE_S = 300.0  # for a whole request
_TOO_SLOW = f"it took longer than {DEADLINE_S:.0f} s"
_QUIET_S = 30.0  # without any data from the server
_MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_CHUNK = 1 << 16


class FetchError(Exception):
    """A list could not be fetched. The text does not contain the URL."""


@dataclass(frozen=True, slots=True)
class Validators:
    """The server's marks of a version of a list: ETag and Last-Modified."""

    etag: str = ""
    modified: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply; `body` is None if the list has not changed."""

    body: bytes | None
    validators: Validators


def get(url: str, allow: Collection[str], known: Validators) -> Answer:
    """Fetches the list at `url`, unless it is still the `known` version. Raises FetchError."""
    deadline = time.monotonic() + DEADLINE_S
    for _ in range(_MOST_REDIRECTS + 1):
        answer = _ask(url, allow, known, deadline)
        if isinstance(answer, Answer):
            return answer
        try:
            url = urljoin(url, answer)
            where, _ = urlsplit(url).hostname, urlsplit(url).port
        except ValueError:
            raise FetchError("it redirects to something that is not a URL") from None
        if "redirect" not in allow:
            raise FetchError(f'it has moved to {where}: write that URL, or allow it: url_allow = ["redirect"]')
    raise FetchError(f"it is redirected more than {_MOST_REDIRECTS} times")


def _ask(url: str, allow: Collection[str], known: Validators, deadline: float) -> Answer | str:
    """The reply to one request, or where it redirects to."""
    connection = _connection(url, allow, deadline)
    # Ends also the connection to a server that sends a few bytes now and then; below TLS, which is still in use.
    end = partial(socket.socket.shutdown, connection.sock, socket.SHUT_RDWR)
    patience = threading.Timer(max(deadline - time.monotonic(), 0), end)
    patience.start()
    try:
        try:
            if tls := isinstance(connection.sock, ssl.SSLSocket):
                connection.sock.do_handshake()
            connection.request("GET", _path(url), headers=_headers(url, known))
            response = connection.getresponse()
            if response.status in _REDIRECTS and (where := response.headers.get("Location")):
                return where
            if response.status == 304 and known != Validators():
                return Answer(None, known)
            if response.status != 200:
                raise FetchError(f"the server answered {response.status} {plain(hidden(response.reason, url)[:80])}")
            body = _body(response, deadline, tls)
        except ssl.SSLCertVerificationError as error:
            raise FetchError(f"its certificate is not valid: {error.verify_message}") from None
        except TimeoutError:
            raise FetchError(f"the server sent nothing for {_QUIET_S:.0f} s") from None
        except http.client.IncompleteRead:
            raise FetchError("the connection ended before the whole list was received") from None
        except (http.client.HTTPException, OSError, ValueError) as error:
            if time.monotonic() > deadline:
                raise FetchError(_TOO_SLOW) from None
            raise FetchError(f"no usable answer: {getattr(error, 'strerror', '') or type(error).__name__}") from None
    finally:
        patience.cancel()
        connection.close()
    return Answer(body, Validators(response.headers.get("ETag", ""), response.headers.get("Last-Modified", "")))


def _body(response: http.client.HTTPResponse, deadline: float, tls: bool) -> bytes:
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise FetchError("it is compressed, which was not asked for")
    if response.length is None and not response.chunked and not tls:  # only TLS tells its end from a lost connection
        raise FetchError("without https the server must state its length: an incomplete list could not be noticed")
    body = bytearray()
    while chunk := response.read1(_CHUNK):
        body += chunk
        if len(body) > MOST_BYTES:
            raise FetchError(f"it is larger than {MOST_BYTES >> 20} MiB")
    if time.monotonic() > deadline:
        raise FetchError(_TOO_SLOW)
    if response.length:  # less came than was announced, which read1 does not report
        raise FetchError("the connection ended before the whole list was received")
    return bytes(body)


def _headers(url: str, known: Validators) -> dict[str, str]:
    parts = urlsplit(url)
    found = {"User-Agent": f"trafficmon/{__version__}", "Accept-Encoding": "identity", "Accept": "*/*"}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        found["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    if known.etag:
        found["If-None-Match"] = known.etag
    if known.modified:
        found["If-Modified-Since"] = known.modified
    return found


def _path(url: str) -> str:
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _connection(url: str, allow: Collection[str], deadline: float) -> http.client.HTTPConnection:
    """A connection to an address that was checked, so that a second DNS answer cannot lead elsewhere."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    if parts.scheme not in ("http", "https") or not host:
        raise FetchError("it redirects to something that is not a web address")
    if parts.scheme == "http" and "http" not in allow:
        raise FetchError("it redirects to http, which is not encrypted")
    sock = _connected(host, port or (443 if parts.scheme == "https" else 80), allow, deadline)
    connection = http.client.HTTPConnection(host, port)
    if parts.scheme == "https":
        # Without TLS's own end of data, anybody on the way could cut a list short that has no length.
        context = ssl.create_default_context()
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
        try:
            sock = context.wrap_socket(
                sock, server_hostname=host, do_handshake_on_connect=False, suppress_ragged_eofs=False
            )
        except (OSError, ValueError) as error:  # gone already, or a name that TLS cannot have
            sock.close()
            raise FetchError(f"TLS with the server failed: {type(error).__name__}") from None
        connection.default_port = 443  # for the Host header
    connection.sock = sock
    return connection


def _connected(host: str, port: int, allow: Collection[str], deadline: float) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise FetchError(
            f"cannot resolve the server's name: {getattr(error, 'strerror', '') or 'it is not a valid name'}"
        ) from None
    addresses = [(family, address) for family, _, _, _, address in found if "private" in allow or is_public(address[0])]
    if not addresses:
        raise FetchError('the server has a private or local address; allow it: url_allow = ["private"]')
    failure = ""
    for family, address in addresses:
        if time.monotonic() > deadline:
            raise FetchError(_TOO_SLOW)
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.settimeout(_QUIET_S)
        try:
            sock.connect(address)
            return sock
        except OSError as error:
            sock.close()
            failure = error.strerror or "no answer"
    raise FetchError(f"cannot connect to the server: {failure}")


def is_public(text: object) -> bool:
    """Whether an address is public: not of this host, a private network or a multicast group."""
    address = ipaddress.ip_address(str(text).partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if inner:
            return is_public(inner)
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(address.packed[-4:]))
        return address.is_global and address in _UNICAST
    return address.is_global and not address.is_multicast


_UNICAST = ipaddress.IPv6Network("2000::/3")  # all that is given out; the rest is local, embeds IPv4 or is reserved
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
