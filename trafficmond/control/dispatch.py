"""From a message to its replies: the Varlink protocol (varlink.org/Method-Call) without its socket."""

import json
import logging
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any

from trafficmond.control import bounds, idl
from trafficmond.control.broadcast import Texts
from trafficmond.control.call import INTERFACE, Call, Method, Reply, Service
from trafficmond.control.peers import ADMIN_GROUP
from trafficmond.dataclass import dataclass
from trafficmond.errors import ConfigError, ControlError, TrafficmonError

log = logging.getLogger(__name__)

SERVICE = "org.varlink.service"
INTERFACES = (SERVICE, INTERFACE)
Message = dict[str, Any]


class BadMessage(ValueError):
    """A message is not a Varlink call; what follows it on the connection cannot be trusted either."""


@dataclass(frozen=True, slots=True)
class Request:
    """One call as received; its parameters are not checked yet."""

    method: str  # with its interface
    parameters: dict[str, Any]
    more: bool = False
    oneway: bool = False
    upgrade: bool = False


def parse(raw: bytes) -> Request:
    """Reads a message without its NUL. Raises BadMessage."""
    try:
        message = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"not JSON: {error}") from None
    if not isinstance(message, dict):
        raise BadMessage("not a JSON object")
    method = message.get("method")
    parameters = message.get("parameters")
    parameters = {} if parameters is None else parameters
    flags = {name: message.get(name) or False for name in ("more", "oneway", "upgrade")}
    if not isinstance(method, str) or not isinstance(parameters, dict):
        raise BadMessage('"method" must be text and "parameters" an object')
    if not all(isinstance(flag, bool) for flag in flags.values()):
        raise BadMessage('"more", "oneway" and "upgrade" must be true or false')
    return Request(method, parameters, **flags)


def encode(message: Message) -> bytes:
    """The bytes of a message, with its NUL. Raises TypeError and ValueError for values that JSON does not have."""
    return _text(message).encode() + b"\0"


def _text(value: Any) -> str:
    """The same as json.dumps, but a field of the message or of its parameters may be Texts."""
    if isinstance(value, Texts):
        return f"[{','.join(value)}]"
    if isinstance(value, dict) and (
        isinstance(value.get("parameters"), dict) or any(isinstance(each, Texts) for each in value.values())
    ):
        return "{" + ",".join(f"{json.dumps(name)}:{_text(each)}" for name, each in value.items()) + "}"
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def error(name: str, **parameters: Any) -> Message:
    """An error reply; a name without a dot is one of io.trafficmon."""
    return {"error": name if "." in name else f"{INTERFACE}.{name}", "parameters": parameters}


async def answer(request: Request, service: Service, call: Call, may_change: bool) -> AsyncGenerator[Message, None]:
    """The replies to a call. Exceptions of methods become error replies here."""
    try:
        async with aclosing(_answer(request, service, call, may_change)) as messages:
            async for message in messages:
                yield message
    except Exception as failure:  # noqa: BLE001  (reported)
        yield _failed(failure, request.method)


async def _changed(work: Coroutine[Any, Any, Reply], method: str) -> Message:
    """The reply to a change, which continues after its client has gone: an exception would then be lost."""
    try:
        return {"parameters": await work}
    except Exception as failure:  # noqa: BLE001  (reported)
        return _failed(failure, method)


def _failed(failure: Exception, method: str) -> Message:
    if isinstance(failure, idl.Mismatch):
        return error(f"{SERVICE}.InvalidParameter", parameter=str(failure))
    if not isinstance(failure, TrafficmonError):
        log.error("%s failed", method, exc_info=failure)
        return error("Failed", reason=f"{method} failed inside the daemon", hint="see the daemon's journal")
    said = {"reason": _reason(failure), "hint": failure.hint}
    if isinstance(failure, ConfigError):
        mistakes = [{"where": each.where, "what": each.what} for each in failure.mistakes]
        return error("Invalid", **said, mistakes=mistakes)
    return error((isinstance(failure, ControlError) and failure.name) or "Failed", **said)


def _reason(failure: TrafficmonError) -> str:
    return str(failure.args[0]) if failure.args else type(failure).__name__


async def _answer(request: Request, service: Service, call: Call, may_change: bool) -> AsyncGenerator[Message, None]:
    interface, _, name = request.method.rpartition(".")
    if interface not in INTERFACES:
        yield error(f"{SERVICE}.InterfaceNotFound", interface=interface)
        return
    described = idl.load(interface)
    if name not in described.methods:
        yield error(f"{SERVICE}.MethodNotFound", method=request.method)
        return
    if request.upgrade:
        yield error(f"{SERVICE}.MethodNotImplemented", method=request.method)
        return
    described.check(described.methods[name].takes, request.parameters)
    bounds.check(request.parameters)
    if interface == SERVICE:
        yield _introspect(name, request.parameters, service)
        return
    method = service.methods[name]
    if method.changes and not may_change:
        yield error(
            "PermissionDenied",
            reason=f"user {call.caller.user} may read but not change anything",
            hint=f"use sudo, or join the group: sudo usermod -aG {ADMIN_GROUP} {call.caller.user}, and log in again",
        )
    elif request.oneway and not method.changes:
        return  # nobody would get the result
    elif method.endless and not call.more:
        yield error(f"{SERVICE}.ExpectedMore")
    else:
        async with aclosing(_run(method, request, service, call)) as messages:
            async for message in messages:
                yield message


async def _run(method: Method, request: Request, service: Service, call: Call) -> AsyncGenerator[Message, None]:
    given = {name: value for name, value in request.parameters.items() if value is not None}
    result = method.answer(call, **given)
    if isinstance(result, Coroutine):
        work = _changed(result, request.method)
        yield await (service.shielded(work) if method.changes else work)
        return
    async with aclosing(result) as stream:
        if method.endless:
            async for reply in stream:
                yield {"parameters": reply, "continues": True}
            return
        # Whether a page `continues` is known only when the next page, or the end, has come.
        held: Reply | None = None
        async for reply in stream:
            if held is not None:
                yield {"parameters": held, "continues": True}
            held = reply
        yield {"parameters": held}


def _introspect(name: str, parameters: dict[str, Any], service: Service) -> Message:
    if name == "GetInfo":
        info = {"vendor": "trafficmon", "product": "trafficmond", "version": service.version}
        return {"parameters": {**info, "url": "https://varlink.org/", "interfaces": list(INTERFACES)}}
    wanted = parameters["interface"]
    if wanted not in INTERFACES:
        return error(f"{SERVICE}.InterfaceNotFound", interface=wanted)
    return {"parameters": {"description": idl.load(wanted).text}}
