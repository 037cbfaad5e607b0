"""The method that sends the complete policy, for clients that judge flows themselves."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from trafficmond import services
from trafficmond.control.call import Call, Reply, Row, method
from trafficmond.handlers.handler import Handler
from trafficmond.policy.geography import By
from trafficmond.policy.load import Policy as Loaded
from trafficmond.policy.rules import Rule

_PAGE_PREFIXES = 500  # prefixes of one page: a few milliseconds of work


class Policy(Handler):
    @method("Policy")
    async def policy(self, call: Call) -> AsyncGenerator[Reply, None]:
        await self._parts.follow_clock()
        policy, settings = self._in_force().policy, self._parts.settings
        head = {
            "default": str(policy.default),
            "default_shadow": None if policy.default_shadow is None else str(policy.default_shadow),
            "established": settings.policy.established,
            "cidr_dir": str(settings.cidr_dir),
        }
        sent = False
        async for page in _pages(policy):
            yield {**head, "rules": page}
            sent = True
            if not call.more:
                return
        if not sent:
            yield {**head, "rules": []}


async def _pages(policy: Loaded) -> AsyncIterator[Sequence[Row]]:
    page: list[Row] = []
    room, now = _PAGE_PREFIXES, time.time()
    for index, rule in enumerate(policy.rules):
        at, end = int(policy.starts[index]), int(policy.starts[index + 1])
        if rule.expires is not None and rule.expires <= now:
            continue
        while at < end:
            upto = min(end, at + room)
            page.append(_row(index, rule, [policy.prefixes.text(row) for row in range(at, upto)]))
            room -= upto - at
            at = upto
            if not room:
                yield page
                page, room = [], _PAGE_PREFIXES
                await asyncio.sleep(0)  # other clients are served between two pages
    if page:
        yield page


def _row(index: int, rule: Rule, prefixes: list[str]) -> Row:
    return {
        "index": index,
        "kind": str(rule.reason),
        "by": None if rule.by is By.CIDR else str(rule.by),
        "action": str(rule.action),
        "direction": str(rule.direction),
        "name": rule.name,
        "label": rule.label or None,
        "path": rule.path,
        "line": rule.line,
        "expires": rule.expires,
        "rate_per_s": rule.rate_per_s or None,
        "burst_packets": rule.burst or None,
        "ports": services.text(rule.services) or None,
        "shadow": rule.shadow or None,
        "prefixes": prefixes,
    }
