"""Checks of settings beyond their type. Each returns the value to keep, or raises ValueError with a valid example."""

import ipaddress
import re
from urllib.parse import urlsplit

from trafficmond import networks, services
from trafficmond.urls import HiddenUrl

DEFAULT_ROUTE = "default-route"
_NAME_OR_GLOB = re.compile(r"[^\s/:]{1,15}")


def prefix(text: str) -> str:
    """The prefix in canonical form, host bits cleared. Raises ValueError."""
    return str(networks.parse(text))


def service(text: str) -> str:
    """A service in the syntax of rules. Raises ValueError."""
    services.parse([text])
    return text


def interface_pattern(text: str) -> str:
    """A name, a glob, a /regex/ or the word default-route. Raises ValueError."""
    if len(text) > 2 and text.startswith("/") and text.endswith("/"):
        try:
            re.compile(text[1:-1])
        except re.error as error:
            raise ValueError(f'"{text}" is not a valid regular expression: {error}') from None
    elif not _NAME_OR_GLOB.fullmatch(text) and text != DEFAULT_ROUTE:
        raise ValueError(
            f'"{text}" is not a valid interface; write a name ("eth0"), a glob ("eth*") or a regex ("/^en.+$/")'
        )
    return text


def listen_address(text: str) -> str:
    """ "ADDRESS:PORT" with a literal address, or empty. Raises ValueError."""
    host, _, port = text.rpartition(":")
    try:
        if text:
            ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
            if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
                raise ValueError
    except ValueError:
        raise ValueError(
            f'"{text}" is not a valid address and port, for example "127.0.0.1:9177" or "[::1]:9177"'
        ) from None
    return text


def feed_url(text: str) -> str:
    """The URL of a list. Raises ValueError, whose text does not contain the URL: it may have a token."""
    try:
        parts = urlsplit(text)
        wrong = bool(text) and (parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0)
    except ValueError:
        wrong = True
    if wrong or not text.isascii() or re.search(r"[\s\0]", text):
        raise ValueError('is not a valid URL of a list, for example "https://lists.example/bad.netset"')
    return HiddenUrl(text)


def power_of_two(value: int) -> int:
    """`value` if it is a power of two. Raises ValueError with the two nearest."""
    if value & (value - 1):
        above = 1 << value.bit_length()
        raise ValueError(f"{value} is not a power of two; use {above >> 1} or {above}")
    return value
