"""The names that this host asked for."""

from __future__ import annotations

from trafficmond.control.call import Call, Reply, method
from trafficmond.control.idl import Mismatch
from trafficmond.handlers.handler import Handler


class DnsNames(Handler):
    """`DnsNames`."""

    @method("DnsNames")
    async def dns_names(self, _: Call, addresses: list[str]) -> Reply:
        """What was asked for of these addresses, those answers included that came just now."""
        names = self._parts.dns
        names.take()
        try:
            found = [(address, *told) for address in addresses for told in names.of(address)]
        except ValueError as error:
            raise Mismatch("addresses", str(error)) from None
        return {"names": [{"address": address, "name": name, "since": since} for address, name, since in found]}
