"""When a target's next message is due. Pure."""

from collections.abc import Sequence

from trafficmond.notifier.news import AT_ONCE, News

HOUR_S = 3600.0
FIRST_WAIT_S = 0.2  # threats that are found together are in one message
_RETRY_S, _LONGEST_RETRY_S = 1.0, 60.0


def due(waiting: Sequence[News], sent: Sequence[float], now: float, group_wait: float, max_per_hour: int) -> float:
    """When the next message is due for `waiting`, which is not empty; the target got messages at the times `sent`."""
    at = min(each.at + (FIRST_WAIT_S if each.kind in AT_ONCE else group_wait) for each in waiting)
    at = min(at, now + group_wait)  # also after the clock was set back
    latest = sorted(each for each in sent if now - HOUR_S < each <= now)[-max_per_hour:]
    return max(at, latest[0] + HOUR_S) if len(latest) == max_per_hour else at


def retry_after(failures: int, asked_s: float = 0.0) -> float:
    """Seconds until a target is tried again after so many failures in a row, or as its server asked, up to an hour."""
    return float(min(max(asked_s, min(_RETRY_S * 2 ** min(failures - 1, 10), _LONGEST_RETRY_S)), HOUR_S))
