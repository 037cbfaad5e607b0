"""The entry point: runs one command, prints errors and returns the exit code."""

import io
import os
import re
import sys

from trafficctl import exits
from trafficmond.errors import ConfigError, TrafficmonError

# What a mistake that the daemon found is about: a parameter of the call, or a key of the rule that it asked for.
_PARAMETER = re.compile(r"^(?:runtime: rule\[0\]\.)?(\w+)(?=: )")


def run(argv: list[str]) -> int:
    """Runs the command that the arguments name; returns the exit code."""
    from trafficctl.parser import parse

    args = parse(argv)
    try:
        return int(args.run(args) or exits.DONE)
    except TrafficmonError as error:
        _report_error(error, args.option_of)
        return exits.code_of(error)


def _report_error(error: TrafficmonError, option_of: dict[str, str]) -> None:
    from trafficmond.figures import plain

    reason = str(error.args[0]) if error.args else type(error).__name__
    if isinstance(error, ConfigError) and len(error.mistakes) > 1:
        reason = "\n".join(str(mistake) for mistake in error.mistakes)
    typed = (_PARAMETER.sub(lambda found: option_of.get(found[1], found[0]), line) for line in reason.split("\n"))
    print("trafficctl:", "\n".join(map(plain, typed)), file=sys.stderr)
    if error.hint:
        print(f"  {plain(error.hint)}", file=sys.stderr)


def main() -> None:
    for name, way in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by the caller
            setattr(sys, name, open(os.devnull, way))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):  # characters that the terminal's encoding lacks are shown as escapes
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # the reader of the output (head, less) has ended
        _drop_output()
        code = exits.DONE
    except OSError as error:
        _drop_output()
        where = error.filename or "cannot write the output"
        print(f"trafficctl: {where}: {error.strerror or error}", file=sys.stderr)
        code = exits.NO
    sys.exit(code)


def _drop_output() -> None:
    """Discards what is still buffered, so that the interpreter does not report it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
