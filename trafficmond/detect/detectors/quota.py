"""A quota of the settings is used up or nearly so. The daemon computes the sums, since packets do not show them."""

from collections.abc import Mapping, Sequence

from trafficmond.config.declare import setting
from trafficmond.dataclass import dataclass
from trafficmond.detect.base import Detection, Detector, DetectorInput
from trafficmond.model import Severity, Threat


@dataclass(frozen=True)
class Settings:
    enabled: bool = setting(True, help="Report when the `share` of a [[quota]] is used, and when all of it is used.")


@dataclass(frozen=True, slots=True)
class Used:
    """The used part of a quota in the present period."""

    label: str
    period: str  # "2026-11", "2026-11-27"
    began: float  # epoch s
    used: int  # bytes
    volume: int  # size of the quota
    share: float  # used part from which it is reported


class Quota(Detector):
    name = "quota"
    technique = "T1496.002"
    dedup_key = ("summary",)
    idle_timeout_s = 900.0

    def __init__(self, _: Settings) -> None:
        self._news: Sequence[Used] = ()
        self._known = 0

    def inform(self, news: Sequence[Used]) -> None:
        self._news, self._known = news, len(news)

    def due(self, now: float) -> bool:  # noqa: ARG002
        return bool(self._news)

    def feed(self, seen: DetectorInput) -> list[Detection]:
        news, self._news = self._news, ()
        return [Detection(len(seen.ends) - 1, threat) for each in news for threat in _threats(each, seen.now)]

    def counters(self) -> Mapping[str, int]:
        return {"entities": self._known, "capacity": self._known, "evicted": 0, "refused": 0}


def _threats(used: Used, now: float) -> list[Threat]:
    """One threat when the share is passed, another when the quota is used up."""
    marks = {used.share: f"at least {used.share:.0%} of it is used", 1.0: "it is used up"}
    return [
        Threat(
            detector=Quota.name,
            severity=Severity.LOW,
            technique=Quota.technique,
            src_ip=None,
            dst_ip=None,
            first_seen=max(used.began, now - Quota.idle_timeout_s),
            last_seen=now,
            count=used.used,
            summary=f"quota {used.label} in {used.period}: {what}",
            evidence={"unit": "bytes", "quota": used.volume, "percent": round(100 * used.used / used.volume, 1)},
        )
        for share, what in marks.items()
        if used.used >= share * used.volume
    ]
