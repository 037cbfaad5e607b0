#!/usr/bin/env bash
# pyroute2 0.9: the synchronous IPRoute() cannot be made on a thread whose asyncio loop runs; 0.8 could.
#
# IPRoute is the plain, blocking class of a netlink library, and a daemon that asks for its addresses once, at the start,
# may well ask from a coroutine: a socket call of microseconds blocks nobody. Since 0.9 the blocking classes drive an event
# loop of their own on the calling thread, so inside a running one the constructor itself raises. A thread of its own
# (asyncio.to_thread) works in all versions.
#
# Seen: 0.8.1 "links: N"; 0.9.7 RuntimeError "This event loop is already running"; 0.9.7 in a thread "links: N".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

cat > "$folder/ask.py" <<'PYTHON'
import asyncio
import sys

from pyroute2 import IPRoute


def links() -> str:
    with IPRoute() as netlink:
        return f"links: {'some' if list(netlink.get_links()) else 'none'}"


async def main() -> str:
    return await asyncio.to_thread(links) if sys.argv[1] == "thread" else links()


try:
    print(asyncio.run(main()))
except RuntimeError as error:
    print(type(error).__name__, error)
PYTHON

ask() {
    [ -d "$folder/$1" ] || {
        python3 -m venv "$folder/$1"
        "$folder/$1/bin/pip" --quiet --disable-pip-version-check install "pyroute2==$1" 2>/dev/null
    }
    "$folder/$1/bin/python" -W ignore "$folder/ask.py" "$2"
}

expect() {
    found=$(ask "$1" "$2")
    echo "pyroute2 $1, $2: $found"
    [ "$found" = "$3" ] || { echo "the behaviour changed" >&2 && exit 1; }
}

expect 0.8.1 loop "links: some"
expect 0.9.7 loop "RuntimeError This event loop is already running"
expect 0.9.7 thread "links: some"
