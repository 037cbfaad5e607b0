"""The methods for the state of the daemon."""

from trafficmond import __version__, status
from trafficmond.control.call import Call, Reply, method
from trafficmond.handlers.handler import Handler


class Status(Handler):
    @method("Status")
    async def status(self, _: Call) -> Reply:
        return status.status(self._parts)

    @method("Metrics")
    async def metrics(self, _: Call) -> Reply:
        return {"text": status.metrics_text(self._parts)}

    @method("Version")
    async def version(self, _: Call) -> Reply:
        return {"version": __version__}
