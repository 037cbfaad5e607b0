"""docs/control.md says what is so: methods, who may call them, errors, bounds, examples."""

from __future__ import annotations

import re
from pathlib import Path

from control_fake import Running

from trafficmond.control import broadcast, client, clients, connection, idl
from trafficmond.control.call import methods_of
from trafficmond.handlers import classes

TEXT = (Path(__file__).parents[2] / "docs" / "control.md").read_text("utf-8")


def test_every_method_with_who_may_call_it() -> None:
    told = dict(re.findall(r"^\| `(\w+)` \| (readers|administrators) \|", TEXT, re.MULTILINE))
    methods = {name: each for handler in classes() for name, each in methods_of(handler).items()}
    assert told == {name: "administrators" if each.changes else "readers" for name, each in methods.items()}


def test_every_error() -> None:
    told = set(re.findall(r"^\| `(\w+)` \| (?!readers|administrators)", TEXT, re.MULTILINE))
    assert told == set(idl.load("io.trafficmon").errors)


def test_every_bound() -> None:
    assert connection.MAX_MESSAGE_BYTES == 1 << 20
    assert f"for {connection.WRITE_TIMEOUT_S:.0f} seconds" in TEXT
    assert f"a backlog of {broadcast.QUEUE_RECORDS:,} records" in TEXT
    assert (
        f"{clients.MAX_CLIENTS} clients may be connected at once, {clients.MAX_CLIENTS_OF_A_USER} of them for one user"
        in TEXT
    )


def test_the_default_path() -> None:
    assert f"`{client.DEFAULT_SOCKET}`" in TEXT


def test_the_python_example_runs(running: Running) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    first_part = code.partition("    for reply")[0].replace("Client()", f"Client({str(running.path)!r})")
    exec(compile(first_part, "docs/control.md", "exec"), {})
