"""The names that others build on are the ones kept in public_names.txt: none goes or changes, and a new one is entered.

To enter new ones: PYTHONPATH=. python3 tests/docs/test_docs_public_names.py
"""

from __future__ import annotations

import argparse
import io
import json
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS / folder) for folder in ("analyze", "metrics", "sinks")]

from captures import AT, ethernet, ipv4, pcap, tcp  # noqa: E402
from metrics_status import COUNTERS, STATUS  # noqa: E402
from sink_events import threat  # noqa: E402

from trafficctl import exits  # noqa: E402
from trafficmond.analyze import cli  # noqa: E402
from trafficmond.config.declare import TableSpec, declared  # noqa: E402
from trafficmond.config.settings import Settings  # noqa: E402
from trafficmond.control import idl  # noqa: E402
from trafficmond.control.client import INTERFACE  # noqa: E402
from trafficmond.detect.registry import settings_classes  # noqa: E402
from trafficmond.metrics.families import families  # noqa: E402
from trafficmond.notifier.settings import Settings as NotifySettings  # noqa: E402
from trafficmond.sinks import messages, record  # noqa: E402
from trafficmond.store import schema  # noqa: E402

KEPT = Path(__file__).with_name("public_names.txt")


def public_names() -> list[str]:
    """Each a line: the kind of name, a blank, its path. Sorted."""
    kinds = {
        "varlink": _varlink(),
        "setting": _settings(Settings),
        "detector": (name for key, cls in settings_classes().items() for name in _settings(cls, f"{key}.")),
        "notify.toml": _settings(NotifySettings),
        "flows.db": _columns(),
        "metric": _metrics(),
        "log": iter(record.FIELDS),
        "threat": iter(record.threat_record(threat(), "opened")),
        "message": (f"{each.id} {key}" for key, each in vars(messages).items() if isinstance(each, messages.Message)),
        "exit": (f"{code} {name}" for name, code in vars(exits).items() if isinstance(code, int)),
        "report": _report(),
    }
    return sorted({f"{kind} {name}" for kind, names in kinds.items() for name in names})


def _varlink() -> Iterator[str]:
    interface = idl.load(INTERFACE)
    for name, declared_type in interface.types.items():
        yield from _fields(declared_type, name)
    for name, method in interface.methods.items():
        yield name
        yield from _fields(method.takes, f"{name}()")
        yield from _fields(method.gives, f"{name}() ->")
    for name, parameters in interface.errors.items():
        yield from _fields(parameters, name)


def _fields(of: idl.Type, path: str) -> Iterator[str]:
    match of:
        case idl.Nullable(held) | idl.Array(held) | idl.Map(held):
            yield from _fields(held, path)
        case idl.Struct(fields):
            yield path
            for name, field in fields.items():
                yield from _fields(field, f"{path}.{name}")
        case idl.Enum(names):
            yield from (f"{path}={name}" for name in names)
        case _:
            yield path


def _settings(cls: type[Any], path: str = "") -> Iterator[str]:
    for key, (_, spec) in declared(cls).items():
        if isinstance(spec, TableSpec):
            yield from _settings(spec.cls, f"{path}{key}{'[]' if spec.many else ''}.")
        else:
            yield from (f"{path}{key}", *(f"{path}{key}={choice}" for choice in spec.choices))


def _columns() -> Iterator[str]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    schema.migrate(connection, Path("flows.db"))
    for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')").fetchall():
        yield from (f"{table}.{row[1]}" for row in connection.execute(f"PRAGMA table_info({table})"))


def _metrics() -> Iterator[str]:
    for family in families(STATUS, COUNTERS):
        labels = {name for labels, _ in family.samples for name in labels}
        yield from (f"{family.kind} {family.name}", *(f"{family.kind} {family.name}.{label}" for label in labels))


def _report() -> Iterator[str]:
    """What `trafficctl analyze -o json` says of a scan of ports."""
    frames = [(AT + port / 10, ethernet(ipv4(tcp(40_000 + port, port)))) for port in range(1, 200)]
    with tempfile.NamedTemporaryFile() as file, redirect_stdout(io.StringIO()) as shown:
        Path(file.name).write_bytes(pcap(frames))
        parser = argparse.ArgumentParser()
        cli.add_arguments(parser)
        cli.run(argparse.Namespace(output="json", **vars(parser.parse_args([file.name]))))
    yield from _keys(json.loads(shown.getvalue()), "")


def _keys(value: Any, path: str) -> Iterator[str]:
    """The path of every key."""
    for each in value if isinstance(value, list) else ():
        yield from _keys(each, f"{path}[]")
    for key, each in value.items() if isinstance(value, dict) else ():
        name = f"{path}.{key}" if path else key
        yield name
        yield from _keys(each, name)


def test_public_names_are_those_kept() -> None:
    kept, there = set(KEPT.read_text().splitlines()), set(public_names())
    assert not kept - there, "gone or changed, though others build on it"
    assert not there - kept, f"new: enter it ({__doc__.splitlines()[-1] if __doc__ else ''})"


if __name__ == "__main__":
    KEPT.write_text("\n".join(public_names()) + "\n")
