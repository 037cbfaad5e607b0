"""Questions to all parts of a daemon but the kernel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from parts_fake import close, make_parts

from trafficmond.control import dispatch, idl
from trafficmond.control.call import Call, Service
from trafficmond.control.peers import Caller
from trafficmond.handlers import make_handlers
from trafficmond.reloader import Reloader
from trafficmond.ruleset import Guard

INTERFACE = idl.load("io.trafficmon")
CALLER = Caller(1000, 1000, 77, "someone", "ada")


class Asked:
    """The daemon's answers, as a client gets them: through the dispatcher, each checked against the description."""

    def __init__(self, folder: Path, guard: Guard) -> None:
        self.parts, self.datapath, self.protected = make_parts(folder, guard)
        handlers = make_handlers(self.parts, Reloader(self.parts))
        self.service = Service.of("0.2.0", handlers, self.parts.tasks.shielded)

    async def replies(self, method: str, **parameters: Any) -> list[dict[str, Any]]:
        request = dispatch.Request(f"io.trafficmon.{method}", parameters, more=True)
        return [reply async for reply in dispatch.answer(request, self.service, Call(CALLER, True), True)]

    async def __call__(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The one reply, or all of a stream's joined."""
        joined: dict[str, Any] = {}
        for reply in await self.replies(method, **parameters):
            assert "error" not in reply, reply
            INTERFACE.check(INTERFACE.methods[method].gives, reply["parameters"])
            for name, value in reply["parameters"].items():
                joined[name] = [*joined[name], *value] if isinstance(value, list) and name in joined else value
        return joined

    async def refused(self, method: str, **parameters: Any) -> tuple[str, str]:
        """(the error's last name, all it says)."""
        (reply,) = await self.replies(method, **parameters)
        return reply["error"].rpartition(".")[2], str(reply["parameters"])

    async def changes(self) -> list[tuple[int, str, int, int]]:
        """(number, what it was, rules removed, rules added) of each change, the latest first."""
        return [
            (each["number"], each["change"], each["removed"], each["added"])
            for each in (await self("History"))["changes"]
        ]

    async def rules(self, number: int | None = None) -> list[dict[str, Any]]:
        """The rules on prefixes as they are, or as they were after change `number`."""
        found = (await self("RulesAt", number=number) if number is not None else await self("RulesAt"))["rules"]
        return [each for each in found if "cidr" in each]


@asynccontextmanager
async def asking(folder: Path, guard: Guard = ()) -> AsyncIterator[Asked]:
    asked = Asked(folder, guard)
    try:
        await asked.parts.rulebook.load()
        yield asked
    finally:
        close(asked.parts)
