"""How the daemon is: status and metrics."""

from __future__ import annotations

from trafficmond import status
from trafficmond.answers.part import Part
from trafficmond.control.view import Row


class StatusAnswers(Part):
    """`Status` and `Metrics`."""

    async def status(self) -> Row:
        """The reply of `Status`."""
        return status.status(self._parts)

    async def metrics(self) -> str:
        """OpenMetrics text."""
        return status.metrics_text(self._parts)
