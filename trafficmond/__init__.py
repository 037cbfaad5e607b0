"""trafficmon: packets become verdicts and ledger entries in the kernel, flows and threats here."""

__version__ = "0.2.0"
