"""Read settings and rules again, and put them in force if they have no mistakes.

The daemon watches its files and does this by itself; reload shows the result at once. If there is a mistake, nothing
changes, mistakes are shown, and the exit code is 1.

Examples:
  sudo trafficctl reload
  trafficctl check && sudo trafficctl reload
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import Any

from trafficctl import options, session
from trafficctl.render.style import Style
from trafficmond import figures
from trafficmond.control.client import INTERFACE
from trafficmond.errors import ControlError


def arguments(parser: ArgumentParser) -> None:
    options.add(parser, "--confirm-within")


def run(args: Namespace) -> None:
    with session.connect(args) as client:
        client.patient()
        try:
            reloaded = client.call("Reload", confirm_within_s=args.confirm_within_s)
        except ControlError as error:
            if error.name != f"{INTERFACE}.Invalid":
                raise
            raise ControlError(str(error.args[0]), hint=error.hint) from error
    session.output(args).report(reloaded, _render)


def _render(reloaded: dict[str, Any], style: Style, __: int | None) -> Iterator[str]:
    counts = figures.ruling(reloaded["rules"], reloaded["lists"], reloaded["prefixes"])
    yield f"generation {reloaded['generation']} in force: {counts}, in {figures.span(reloaded['took_s'])}"
    for changed in reloaded["changed"]:
        yield f"  {figures.plain(changed)}"
    for warning in reloaded.get("warnings") or ():
        yield style.paint(f"  warning: {figures.plain(warning)}", "yellow")
