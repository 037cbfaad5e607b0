"""The connection of one client: splits bytes into messages, runs calls one after the other, and writes replies."""

import asyncio
import logging
import select
import socket
from typing import cast

from trafficmond.control import dispatch, peers
from trafficmond.control.call import Call, Service
from trafficmond.control.clients import Clients

log = logging.getLogger(__name__)

# bound: a message on the control socket | the reply is `MessageTooLarge`, and the connection is closed
MAX_MESSAGE_BYTES = 1 << 20
WRITE_BUFFER_BYTES = 1 << 18  # beyond it a reply waits for the client to read
WRITE_TIMEOUT_S = 30.0  # ... for this long


class Connection(asyncio.Protocol):
    """A client. Calls are answered in order; while one is being answered the next ones wait unread.

    It is in one of four states:
    - reading (`idle_since` is a time): bytes are kept until a NUL ends a call, then it is
    - answering (`_task` is set): more bytes wait, up to the size of a message; after the last reply it is reading
      again, or closed, if the client has meanwhile closed its sending side (`_ended`);
    - refused: the message is not a call, or there are too many clients; closed after the error reply is written;
    - dropped: the client has gone, does not read, or is evicted; its call is cancelled.
    """

    transport: asyncio.Transport
    peer: peers.Peer

    def __init__(self, clients: Clients, service: Service) -> None:
        self._clients = clients
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._scanned = 0  # bytes of the buffer that have no NUL
        self._task: asyncio.Task[None] | None = None
        self._ended = False  # the client has closed its sending side
        self._writable = asyncio.Event()
        self._writable.set()
        self.idle_since: float | None = self._loop.time()  # None: a call is being answered

    # ---- events of the transport ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(WRITE_BUFFER_BYTES)
        try:
            self.peer = peers.peer_of(self._socket())
        except OSError:
            self.transport.abort()
            return
        refusal = self._clients.admit(self)
        if refusal:
            self._send(dispatch.error("Busy", reason=refusal, hint="close other trafficctl sessions, or try again"))
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._task is None:
            self._next_call()
        elif len(self._buffer) > MAX_MESSAGE_BYTES:
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        self._ended = True
        # A client that has closed its sending side may still read.
        if self._task and not self._hung_up():
            return True
        self.drop()
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        self._clients.forget(self)
        self._writable.set()
        if self._task:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # ---- calls ----

    def _next_call(self) -> None:
        end = self._buffer.find(b"\0", self._scanned)
        if end < 0 and len(self._buffer) <= MAX_MESSAGE_BYTES:
            self._scanned = len(self._buffer)
            self.idle_since = self._loop.time()
            if self._ended:
                self.transport.close()
            return
        if end < 0 or end > MAX_MESSAGE_BYTES:
            self._refuse(dispatch.error("MessageTooLarge", limit_bytes=MAX_MESSAGE_BYTES))
            return
        raw = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._scanned = 0
        try:
            request = dispatch.parse(raw)
        except dispatch.BadMessage as bad:
            hint = "a message is one JSON object followed by a NUL byte; see control.md"
            self._refuse(dispatch.error("Failed", reason=f"not a Varlink call: {bad}", hint=hint))
            return
        self.idle_since = None
        self._task = self._loop.create_task(self._answer(request))

    async def _answer(self, request: dispatch.Request) -> None:
        caller = self.peer.caller
        call = Call(caller, more=request.more and not request.oneway)
        replies = dispatch.answer(request, self._service, call, self._clients.may_change(self.peer))
        try:
            await self._clients.next_round()
            async for reply in replies:
                if not request.oneway:
                    self._send(reply)
                    if not self._writable.is_set():
                        await asyncio.wait_for(self._writable.wait(), WRITE_TIMEOUT_S)
                await self._clients.next_round()
                if self.transport.is_closing():
                    return
        except TimeoutError:
            log.warning("disconnected a client that reads no replies: process %d of user %s", caller.pid, caller.user)
            self._clients.counts.slow += 1
            self.drop()
            return
        finally:
            await replies.aclose()  # frees a watcher at once
            self._task = None
        if len(self._buffer) <= MAX_MESSAGE_BYTES:  # else enough calls wait already
            self.transport.resume_reading()
        self._next_call()

    def _send(self, message: dispatch.Message) -> None:
        try:
            raw = dispatch.encode(message)
        except (TypeError, ValueError):
            log.exception("a reply cannot be written as JSON")
            failure = dispatch.error("Failed", reason="the reply cannot be written", hint="see the daemon's journal")
            raw = dispatch.encode(failure)
        self.transport.write(raw)

    def _refuse(self, message: dispatch.Message) -> None:
        """Sends an error and closes the connection: the beginning of the next message is unknown."""
        self._clients.counts.bad += 1
        self._buffer.clear()
        self._send(message)
        self.transport.close()

    def drop(self) -> None:
        self.transport.abort()

    def _socket(self) -> socket.socket:
        return cast(socket.socket, self.transport.get_extra_info("socket"))

    def _hung_up(self) -> bool:
        poll = select.poll()
        poll.register(self._socket().fileno(), 0)
        return any(events & select.POLLHUP for _, events in poll.poll(0))
