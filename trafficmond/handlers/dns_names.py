"""The method for names from DNS answers."""

from trafficmond.control.call import Call, Reply, method
from trafficmond.control.idl import Mismatch
from trafficmond.handlers.handler import Handler


class DnsNames(Handler):
    @method("DnsNames")
    async def dns_names(self, _: Call, addresses: list[str]) -> Reply:
        names = self._parts.dns
        names.take()
        try:
            found = [(address, *named) for address in addresses for named in names.of(address)]
        except ValueError as error:
            raise Mismatch("addresses", str(error)) from None
        return {"names": [{"address": address, "name": name, "since": since} for address, name, since in found]}
