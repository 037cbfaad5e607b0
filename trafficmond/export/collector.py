"""The transports for IPFIX over UDP and TCP (RFC 7011 section 10)."""

import contextlib
import select
import socket
import time
from collections.abc import Iterable

from trafficmond.config.streams import Export
from trafficmond.config.target import Target
from trafficmond.export.ipfix import Part, Stream, parts
from trafficmond.flows.batch import Batch
from trafficmond.flows.names import Names

_IP_UDP_BYTES = 48  # headers of IPv6 and UDP; those of IPv4 are smaller
_TCP_MESSAGE_BYTES = 16384
_TIMEOUT_S = 10.0
_BURST = 16  # datagrams sent without a pause


class _Collector:
    """The common part of both transports: the counters, and packing of rows into messages."""

    gather_s = 0.0
    max_bytes = _TCP_MESSAGE_BYTES
    waiting = 0

    def __init__(self, target: Target, export: Export) -> None:
        self.sent = self.lost = 0
        self.error = ""
        self._target = target
        self._export = export
        self._stream = Stream(export.observation_domain)
        self._socket: socket.socket | None = None

    def pack(self, rows: Batch, names: Names) -> Iterable[Part]:  # noqa: ARG002 - IPFIX has numbers, not names
        return parts(rows, self.max_bytes, biflow=self._export.biflow)

    def close(self, deadline: float) -> None:  # noqa: ARG002 - nothing waits here
        self._hang_up()

    def _connect(self, kind: socket.SocketKind) -> socket.socket:
        """A socket connected to the first address that accepts. Raises OSError."""
        found = socket.getaddrinfo(self._target.host, self._target.port, type=kind)
        failure = OSError(f"{self._target.host} has no address")
        for family, _, protocol, _, address in found:
            candidate = socket.socket(family, kind, protocol)
            candidate.settimeout(_TIMEOUT_S)
            try:
                candidate.connect(address)
                return candidate
            except OSError as error:
                candidate.close()
                failure = error
        raise failure

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class UdpCollector(_Collector):
    """Sends datagrams. `sent` counts flows that left this host; those of refused datagrams count as lost too."""

    def __init__(self, target: Target, export: Export) -> None:
        super().__init__(target, export)
        self.max_bytes = export.mtu - _IP_UDP_BYTES
        self._templates_due = 0.0
        self._before = 0  # flows in the last datagram
        self._next = 0.0  # when the next datagram may be sent (monotonic)

    def send(self, part: Part) -> None:
        """Sends a message, after templates if they are due. Raises OSError if it did not leave this host."""
        sequence = self._stream.sequence
        try:
            if self._socket is None:
                self._socket = self._connect(socket.SOCK_DGRAM)
                self._templates_due = 0.0
            now = time.monotonic()
            if now >= self._templates_due:
                for message in self._stream.templates(self.max_bytes, time.time()):
                    self._datagram(self._socket, message)
                self._templates_due = now + self._export.template_interval
            self._datagram(self._socket, self._stream.message(part.sets, part.records, time.time()))
        except OSError as error:
            self._stream.sequence = sequence  # it will be sent again: a gap would mean lost records
            self._hang_up()  # addresses and routes may have changed
            raise OSError(error.errno, f"{self._target}: {error.strerror or error}") from error
        self.sent += part.flows
        self._before = part.flows

    def _datagram(self, connected: socket.socket, message: bytes) -> None:
        self._pace()
        try:
            connected.send(message)
        except ConnectionRefusedError:
            # This is the ICMP error for the last datagram (port unreachable); this one was not sent.
            self.error = f"{self._target}: nobody listens there"
            self.lost += self._before
            self._before = 0
            connected.send(message)
        else:
            self.error = "" if self._before else self.error

    def _pace(self) -> None:
        """Waits so that only a small burst exceeds the rate; the socket buffer of a collector holds some hundred."""
        gap, now = 1 / self._export.max_rate, time.monotonic()
        self._next = max(self._next, now - _BURST * gap) + gap
        if self._next > now:
            time.sleep(self._next - now)


class TcpCollector(_Collector):
    """Sends over a connection. Messages that only the collector's kernel has accepted count as sent."""

    def send(self, part: Part) -> None:
        """Sends a message. Raises OSError; then the next call connects again and starts with templates."""
        try:
            if self._socket is not None:  # a collector never sends data: anything to read means that it has closed
                poll = select.poll()
                poll.register(self._socket, select.POLLIN | select.POLLRDHUP)
                if poll.poll(0):
                    self._hang_up()
            if self._socket is None:
                self._socket = self._connect(socket.SOCK_STREAM)
                self._stream = Stream(self._export.observation_domain)
                for message in self._stream.templates(self.max_bytes, time.time()):
                    self._socket.sendall(message)
            self._socket.sendall(self._stream.message(part.sets, part.records, time.time()))
        except OSError as error:
            self._hang_up()
            raise OSError(error.errno, f"{self._target}: {error.strerror or error}") from error
        self.sent += part.flows

    def _hang_up(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)
        super()._hang_up()
