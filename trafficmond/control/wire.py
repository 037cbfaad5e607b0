"""Encodes messages for the socket."""

import json
from collections.abc import Mapping
from typing import Any


class Texts(list[str]):
    """A JSON array whose items are JSON texts already, which several messages may share."""


def encode(message: Mapping[str, Any]) -> bytes:
    """The bytes of a message, with its NUL. Raises TypeError and ValueError for values that JSON does not have."""
    return _text(message).encode() + b"\0"


def _text(value: Any) -> str:
    """The same as json.dumps, but a field of the message or of its parameters may be Texts."""
    if isinstance(value, Texts):
        return f"[{','.join(value)}]"
    if isinstance(value, Mapping) and (
        isinstance(value.get("parameters"), Mapping) or any(isinstance(each, Texts) for each in value.values())
    ):
        return "{" + ",".join(f"{json.dumps(name)}:{_text(each)}" for name, each in value.items()) + "}"
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
