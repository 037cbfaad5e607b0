"""URLs that may hold a password or a token: told apart from other text, and kept out of what people read."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_SECRET_CHARS = 3  # a part of a URL that is shorter gives nothing away


class HiddenUrl(str):
    """A URL whose `repr`, and so that of all that holds it, shows the host alone."""

    __slots__ = ()

    def __repr__(self) -> str:
        parts = urlsplit(self)
        return f"'{parts.scheme}://{parts.hostname}/...'" if self else "''"


def hidden(text: str, url: str) -> str:
    """`text` without any part of the URL but its scheme."""
    secrets = [part for part in re.split(r"[/:@?&=,\s]+", url.partition("://")[2]) if len(part) >= _SECRET_CHARS]
    for secret in sorted(secrets, key=len, reverse=True):
        text = re.sub(re.escape(secret), "***", text, flags=re.IGNORECASE)
    return text
