"""`trafficmon-share`: the privileged step of sharing an interface with other XDP programs through libxdp.

It answers one request on the socket at its standard input and ends. The permissions of the socket decide who may send
requests. A request adds our program, with the maps of the client, to the chain of an interface, removes the program
with these maps, or reports whether it is there. Only the installed data path is loaded, and nothing else is changed.
"""

import contextlib
import json
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trafficmond import __version__
from trafficmond.datapath import libbpf, libxdp
from trafficmond.datapath.interfaces import XdpMode
from trafficmond.datapath.loader import MAPS, Sizes, open_libbpf
from trafficmond.datapath.pins import layout_name
from trafficmond.datapath.share import ANSWER_BYTES
from trafficmond.errors import DatapathError, ForeignProgramError

_MOST_MAPS = 2 * len(MAPS)
_ASKER_S = 10.0  # for the request


def main() -> int:
    """Exit code: 0 a request was answered; 2 there was none."""
    if sys.argv[1:] == ["--version"]:
        print(f"trafficmon-share {__version__}")
        return 0
    try:
        connection = socket.socket(fileno=os.dup(sys.stdin.fileno()))
        connection.settimeout(_ASKER_S)
        request, fds, _, _ = socket.recv_fds(connection, ANSWER_BYTES, _MOST_MAPS)
    except OSError:
        print("trafficmon-share is started by systemd, or by trafficmond; not by hand", file=sys.stderr)
        return 2
    with connection:
        reply = answer(request, fds)
        link = reply.pop("link", None)
        with contextlib.suppress(OSError):  # the client has gone
            socket.send_fds(connection, [json.dumps(reply).encode()], [] if link is None else [link])
    if "error" in reply:
        print(f"trafficmon-share: {reply['error']}", file=sys.stderr)
    return 0


def answer(request: bytes, fds: Sequence[int]) -> dict[str, Any]:
    """The reply to a request: the state of the chain, the descriptor of a `link`, or `error` and `hint`."""
    try:
        asked = json.loads(request)
        ifindex = asked["ifindex"]
        if not isinstance(ifindex, int) or ifindex < 1:
            raise ValueError("ifindex")
        return _ACTS[asked["do"]](asked, ifindex, fds)
    except (ValueError, LookupError, TypeError) as error:
        return {"error": f"trafficmon-share does not know this request ({error!r})", "hint": "restart trafficmond"}
    except DatapathError as error:
        foreign = isinstance(error, ForeignProgramError)
        return {"error": str(error.args[0]), "hint": error.hint, "foreign": foreign}
    except OSError as error:
        return {"error": f"the kernel refused it: {error.strerror or error}", "hint": "see journalctl -k"}


def _join(asked: Mapping[str, Any], ifindex: int, fds: Sequence[int]) -> dict[str, Any]:
    modes = [mode for mode in (XdpMode.NATIVE, XdpMode.GENERIC) if mode in asked["modes"]]
    opened, config = _ours(asked, fds)
    fds, direct = (fds[:-1], fds[-1]) if asked["direct"] else (fds, None)
    libxdp.join(ifindex, modes, opened, _ids([config, *fds[len(MAPS) :]]), direct)
    return _look(asked, ifindex, [config])


def _ours(asked: Mapping[str, Any], fds: Sequence[int]) -> tuple[Callable[[], libbpf.Object], int]:
    """A function that opens the installed object with the client's maps; and the map by which it is recognised."""
    sizes = Sizes(*map(int, asked["sizes"]))
    if asked["layout"] != layout_name(sizes):
        raise DatapathError("the running trafficmon is not the installed version", hint="restart trafficmond")
    names = asked["maps"]
    if set(names) != MAPS.keys() or len(names) != len(MAPS) or len(fds) < len(MAPS):
        raise ValueError("maps")
    maps = dict(zip(names, fds, strict=False))

    def opened() -> libbpf.Object:
        return open_libbpf(sizes, maps, int(asked["seed"]), owners=bool(asked["owners"]))

    return opened, maps["tm_config"]


def _leave(asked: Mapping[str, Any], ifindex: int, fds: Sequence[int]) -> dict[str, Any]:
    fds, program = (fds[:-1], fds[-1]) if asked.get("alone") else (fds, None)  # a daemon before the upgrade
    return {"link": libxdp.leave(ifindex, _ids(fds), program)}


def _look(_: Mapping[str, Any], ifindex: int, fds: Sequence[int]) -> dict[str, Any]:
    with contextlib.suppress(ForeignProgramError), libxdp.chain(ifindex) as now:
        if now is not None:
            ours = bool(now.of(_ids(fds)))
            return {"ours": ours, "dispatcher": now.dispatcher, "mode": now.mode, "chain": now.described()}
    return {"ours": False, "dispatcher": 0, "mode": "", "chain": []}


def _ids(fds: Sequence[int]) -> set[int]:
    return {libbpf.map_info(fd).id for fd in fds}


_ACTS: dict[str, Callable[[Mapping[str, Any], int, Sequence[int]], dict[str, Any]]] = {
    "join": _join,
    "leave": _leave,
    "look": _look,
}

if __name__ == "__main__":
    sys.exit(main())
