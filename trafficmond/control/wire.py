"""Messages as they go over the wire."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class Texts(list[str]):
    """A JSON array whose items are JSON already, made once for however many are told."""


def encode(message: Mapping[str, Any]) -> bytes:
    """A message with its NUL. Raises TypeError and ValueError for what JSON cannot hold."""
    return _text(message).encode() + b"\0"


def _text(value: Any) -> str:
    """As json.dumps; Texts may stand for a field of the message or of its parameters."""
    if isinstance(value, Texts):
        return f"[{','.join(value)}]"
    if isinstance(value, Mapping) and (
        isinstance(value.get("parameters"), Mapping) or any(isinstance(each, Texts) for each in value.values())
    ):
        return "{" + ",".join(f"{json.dumps(name)}:{_text(each)}" for name, each in value.items()) + "}"
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
