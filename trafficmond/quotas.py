"""Looks up the usage of the quotas in the rollups, for the detector of quotas."""

import contextlib
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from trafficmond.config.settings import Quota
from trafficmond.detect.detectors.quota import Used
from trafficmond.errors import Busy, StoreError
from trafficmond.pipeline import Pipeline
from trafficmond.questions import Questions
from trafficmond.store.reader import Reader
from trafficmond.store.usage import PERIODS, UsageQuery, rows_of, usage_sql

_EVERY_S = 60.0


class Quotas:
    """Looks up the usage once a minute. For the event loop's thread."""

    def __init__(self, path: Path, questions: Questions, pipeline: Pipeline) -> None:
        """`path` is that of flows.db."""
        self._path, self._questions, self._pipeline = path, questions, pipeline
        self._looked = -_EVERY_S

    async def check(self, quotas: Sequence[Quota], now: float) -> None:
        """Gives the detector the usage by `now` (epoch s). If the store cannot be read, it is tried again later."""
        if not quotas or time.monotonic() - self._looked < _EVERY_S:
            return
        self._looked = time.monotonic()
        with contextlib.suppress(Busy, StoreError), self._questions.counted():
            used = await self._questions.ask(
                lambda: Reader(self._path), lambda reader: [used_of(each, now, reader) for each in quotas]
            )
            self._pipeline.engine.inform("quota", used)


def used_of(quota: Quota, now: float, reader: Reader) -> Used:
    """The usage of a quota in the period of `now` (epoch s). Raises StoreError."""
    moment = datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    began = (moment if quota.period == "day" else moment.replace(day=1)).timestamp()
    whose = [(kind, key) for kind, key in (("interface", quota.interface), ("unit", quota.unit)) if key]
    kind, key = whose[0] if whose else ("total", None)
    period = moment.strftime(PERIODS[quota.period])
    rows = rows_of(reader.rows(usage_sql(UsageQuery(quota.period, kind, key, began))))
    up, down = (
        sum(int(str(row[way])) for row in rows if row["period"] == period) for way in ("up_bytes", "down_bytes")
    )
    used = {"up": up, "down": down, "both": up + down}[quota.counts]
    label = quota.label or " ".join(filter(None, (key, quota.counts if quota.counts != "both" else "")))
    return Used(label or "of all", period, began, used, quota.volume, quota.share)
