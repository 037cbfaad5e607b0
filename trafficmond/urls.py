"""URLs that may have a password or a token, which must not be shown."""

import re
from urllib.parse import unquote_plus, urlsplit

_SECRET_CHARS = 3  # shorter parts of a URL are not secret


class HiddenUrl(str):
    """A URL whose `repr` shows the host only, also within the `repr` of another object."""

    __slots__ = ()

    def __repr__(self) -> str:
        parts = urlsplit(self)
        return f"'{parts.scheme}://{parts.hostname}/...'" if self else "''"


def hidden(text: str, url: str) -> str:
    """`text` with the parts of the URL, as written and decoded, except short ones and its scheme, replaced by ***."""
    parts = re.split(r"[/:@?&=,\s]+", url.partition("://")[2])
    secrets = {each for part in parts for each in (part, unquote_plus(part)) if len(each) >= _SECRET_CHARS}
    for secret in sorted(secrets, key=len, reverse=True):
        text = re.sub(re.escape(secret), "***", text, flags=re.IGNORECASE)
    return text
