"""`trafficmond`: reads the command line and the settings, then runs the daemon.

It imports the daemon in functions, so that files or memory that run out meanwhile are reported in a sentence.
"""

import errno
import gc
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trafficmond.config.flags import Flags
    from trafficmond.config.settings import Settings

_LACKS = {errno.ENOMEM: "memory ran out", **dict.fromkeys((errno.EMFILE, errno.ENFILE), "too many files are open")}
_LACKS_IN_TEXT = {  # as CPython and the dynamic linker say it, with no type or number of its own
    "can't start new thread": "no thread could be started",
    "failed to map segment from shared object": "memory ran out",
    "cannot open shared object file: Too many open files": "too many files are open",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 ended as asked, 1 could not start, 2 the configuration or the command line is wrong."""
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except (ImportError, MemoryError, OSError, RuntimeError) as error:
        if not (lack := _lack_of_room(error)):
            raise
        hint = "raise the limit that it runs under (ulimit; MemoryMax=, TasksMax= and LimitNOFILE= of its unit)"
        print(f"trafficmond: not enough resources: {lack}; {hint}", file=sys.stderr)
        return 1


def _lack_of_room(error: BaseException | None) -> str:
    """What the system had no room for, of an error or of what led to it; empty for any other error."""
    while error is not None:
        number = errno.ENOMEM if isinstance(error, MemoryError) else getattr(error, "errno", None)
        if number in _LACKS:
            return _LACKS[number]
        for text, lack in _LACKS_IN_TEXT.items():
            if text in str(error):
                return lack
        error = error.__context__
    return ""


def _run(argv: Sequence[str]) -> int:
    gc.disable()  # nothing of these imports is garbage: 4 ms of a start
    from trafficmond import start
    from trafficmond.compiled import from_wheel
    from trafficmond.config.flags import parse_flags
    from trafficmond.errors import ConfigError, TrafficmonError

    gc.freeze()
    gc.enable()
    flags = parse_flags(argv)
    try:
        file = start.settings_file(flags)
        if flags.test:
            from trafficmond.detect.registry import settings_classes

            return _test(file.settings(settings_classes()))
        if flags.detach:
            return _detach(file.own() or start.valid(file, flags)[0], flags)
        start.run(file, flags)
        return 0
    except TrafficmonError as error:
        print(*(f"trafficmond: {line}" for line in error.lines()), sep="\n", file=sys.stderr)
        if isinstance(error, ConfigError):
            return 2
        if from_wheel():
            print("trafficmond: to see what this system still needs, run: sudo trafficctl doctor", file=sys.stderr)
        return 1


def _detach(settings: "Settings", flags: "Flags") -> int:
    from trafficmond.datapath.attach import detach_all
    from trafficmond.datapath.interfaces import list_interfaces
    from trafficmond.errors import DatapathError

    if flags.detach == "configured" and settings.on_stop == "keep":
        return 0
    try:
        detach_all(settings.pin_dir)
    except OSError as error:
        what = f"cannot detach what is pinned in {settings.pin_dir}: {error.strerror}"
        raise DatapathError(what, hint="run as root: sudo trafficmond --detach") from error
    if left := ", ".join(each.name for each in list_interfaces() if each.xdp_prog_id):
        print(f"detached what is pinned in {settings.pin_dir}; an XDP program is still attached to {left}.")
        print("It belongs to another program (see bpftool net), or to a trafficmond with another pin_dir.")
        print("The latter is detached with its own settings: trafficmond -c FILE --detach")
    else:
        print("detached: nothing is filtered or counted any more, until trafficmond is started again")
    return 0


def _test(settings: "Settings") -> int:
    from trafficmond.geo.reading import open_geoip
    from trafficmond.policy.sources import read_policy

    policy = read_policy(settings, open_geoip(settings.geo.databases))
    for note in policy.notes:
        print(f"note: {note}")
    where = settings.source or "defaults (no configuration file)"
    print(f"{where}: OK; {policy.counts}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
