"""What it takes to add a control method with its command: a toy is added to a copy, whose tests accept it."""

from __future__ import annotations

from pathlib import Path

from tree_copy import TreeCopy

DESCRIPTION = "method Uptime(since: ?float) -> (seconds: float)\n"
HANDLER = '''"""How long the daemon has been up."""

from __future__ import annotations

import time

from trafficmond.control.call import Call, Reply, method
from trafficmond.handlers.handler import Handler


class Uptime(Handler):
    """`Uptime`."""

    @method("Uptime")
    async def uptime(self, _: Call, since: float | None = None) -> Reply:
        """Seconds since the start, or since a moment."""
        return {"seconds": time.time() - (self._parts.started_at if since is None else since)}
'''
HANDLER_TEST = """from __future__ import annotations

import asyncio
from pathlib import Path

from asking import asking


def test_it_grows(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            assert 0 < (await ask("Uptime"))["seconds"] < (await ask("Uptime", since=0.0))["seconds"]

    asyncio.run(run())
"""
COMMAND = '''"""How long the daemon has been up.

Examples:
  trafficctl uptime
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import Any

from trafficctl import exits, session
from trafficctl.render.style import Style


def arguments(_: ArgumentParser) -> None:
    """None of its own."""


def run(args: Namespace) -> int:
    """Show it."""
    with session.connect(args) as client:
        session.output(args).report(client.call("Uptime"), _tell)
    return exits.DONE


def _tell(told: dict[str, Any], _: Style, __: int | None) -> Iterator[str]:
    yield f"{told['seconds']:.0f} s"
'''
COMMAND_TEST = """from __future__ import annotations

from control_fake import Running
from ctl_runs import Ctl


def test_it_is_shown(ctl: Ctl, running: Running) -> None:
    running.canned.replies["Uptime"] = {"seconds": 5.0}
    assert ctl("uptime").stdout == "5 s\\n"
"""


def test_a_control_method_with_its_command_is_seven_files(tmp_path: Path) -> None:
    tree = TreeCopy(tmp_path)
    version = "method Version() -> (version: string)\n"
    tree.edit("trafficmond/control/io.trafficmon.varlink", (version, f"\n{DESCRIPTION}"))
    tree.add("trafficmond/handlers/uptime.py", HANDLER)
    tree.add("tests/handlers/test_handlers_uptime.py", HANDLER_TEST)
    tree.add("trafficctl/commands/uptime.py", COMMAND)
    line = '        "uptime": ("uptime", "how long the daemon has been up"),\n'
    after = '        "version": ("version", "the versions of client and daemon"),\n'
    tree.edit("trafficctl/commands/__init__.py", (after, line))
    tree.add("tests/trafficctl/test_trafficctl_uptime.py", COMMAND_TEST)
    row = "| `Uptime` | readers | how long the daemon has been up |\n"
    shown = "\n```sh\ntrafficctl uptime\n```\n"
    last = "| `Audit` | readers | who changed what, latest first |\n"
    tree.edit("docs/control.md", ("| `Version` | readers | the daemon's version |\n", row), (last, shown))

    tree.tests_pass("tests/handlers/test_handlers_uptime.py", "tests/handlers/test_handlers_methods.py")
    commands = "tests/trafficctl/test_trafficctl_commands.py"
    tree.tests_pass("tests/trafficctl/test_trafficctl_uptime.py", commands, "-k", "uptime or help or completion")
    tree.tests_pass("tests/control/test_control_docs.py")
    tree.tests_pass("tests/docs/test_docs_pages.py", "-k", "command")
    tree.run("packaging/generate", "made")
    for name in ("man/trafficctl.1", *(f"completions/{each}" for each in ("trafficctl", "_trafficctl"))):
        assert "uptime" in (tmp_path / "made" / name).read_text(), name
    assert len(tree.touched) <= 7, tree.touched
