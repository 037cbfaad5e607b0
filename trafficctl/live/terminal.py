"""Runs the live screen on a terminal, with curses."""

import contextlib
import curses
import locale
import os
import re
import time

from trafficctl.asked import Asked
from trafficctl.live import keys
from trafficctl.live.keys import Keys
from trafficctl.live.model import LISTS, Live
from trafficctl.live.screen import draw, help_screen
from trafficctl.names import Labels
from trafficctl.render.style import Style
from trafficctl.resolver import Resolver, reverse
from trafficmond import figures
from trafficmond.control.client import Client
from trafficmond.errors import ControlError

ROWS = 200  # rows requested from the daemon
_RETRY_S = 1.0
_ANSI = re.compile(r"\x1b\[(\d+)m")
_ATTRIBUTES = {1: curses.A_BOLD, 2: curses.A_DIM, 7: curses.A_REVERSE}
_COLOURS = {31: 1, 32: 2, 33: 3, 34: 4, 36: 6}
_NAMES: dict[str | int, str] = {
    **dict.fromkeys(("\n", "\r", curses.KEY_ENTER), keys.ENTER),
    **dict.fromkeys(("\x7f", "\b", curses.KEY_BACKSPACE), keys.BACKSPACE),
    "\x1b": keys.ESCAPE,
    "\t": keys.TAB,
    curses.KEY_UP: keys.UP,
    curses.KEY_DOWN: keys.DOWN,
    curses.KEY_PPAGE: keys.PAGE_UP,
    curses.KEY_NPAGE: keys.PAGE_DOWN,
    curses.KEY_HOME: keys.HOME,
    curses.KEY_END: keys.END,
    curses.KEY_F1: "?",
}


class Feed:
    """Calls the daemon for the screen, and connects again after the daemon was gone."""

    def __init__(self, socket: str, *, services: bool = True) -> None:
        self._socket = socket
        self._client: Client | None = Client(socket)
        self._services = services
        self._resolver = Resolver(reverse)
        self._asked = Asked(socket)

    def ask(self, live: Live) -> None:
        try:
            client = self._client = self._client or Client(self._socket)
            wanted = {"sort": live.sort, "window_s": live.window_s, "match": live.match or None}
            answer = client.call("Top", **wanted, limit=ROWS)
            labels = Labels(self._resolver if live.names else None, services=self._services, asked=self._asked)
            labels.learn(row for name in LISTS for row in answer.get(name) or ())
            live.update(answer | {name: list(map(labels.now, answer[name])) for name in LISTS if name in answer})
            live.trouble = ""
        except ControlError as error:
            live.trouble = str(error)
            if not error.name.startswith(("io.", "org.")):
                if self._client:  # not an error reply: the daemon is gone
                    self._client.close()
                self._client = None

    def ban(self, address: str) -> str:
        try:
            client = self._client = self._client or Client(self._socket)
            ban = client.call("Ban", cidr=address, reason="from trafficctl top")["ban"]
            return f"banned {ban['cidr']} until {figures.when(ban['expires'])}"
        except ControlError as error:
            return str(error).replace("\n", "; ")


def show(socket: str, live: Live, interval_s: float, *, services: bool = True) -> None:
    """Runs until the user quits. Raises ControlError if the daemon cannot be reached at the start."""
    feed = Feed(socket, services=services)
    locale.setlocale(locale.LC_ALL, "")
    os.environ.setdefault("ESCDELAY", "25")
    for name in ("LINES", "COLUMNS"):
        os.environ.pop(name, None)  # with them curses would not notice a change of the terminal's size
    curses.wrapper(_run, feed, live, interval_s)


def _run(window: curses.window, feed: Feed, live: Live, interval_s: float) -> None:
    _prepare()
    style = Style(curses.has_colors() and not os.environ.get("NO_COLOR"), reverse=True)
    unicode = locale.nl_langinfo(locale.CODESET).upper() == "UTF-8"
    pressed, due = Keys(live, feed.ban), 0.0
    while True:
        now = time.monotonic()
        if (now >= due and not live.still) or pressed.stale:
            feed.ask(live)
            pressed.stale = False
            due = now + (interval_s if live.answer else max(interval_s, _RETRY_S))
        if live.bell:
            live.bell = False
            with contextlib.suppress(curses.error):  # the terminal has no bell
                curses.beep()
        height, width = window.getmaxyx()
        shown = help_screen(width, style) if pressed.helping else draw(live, width, height, style, unicode=unicode)
        _paint(window, shown)
        window.timeout(max(10, int(1000 * (due - time.monotonic()))) if not live.still else -1)
        key = _key(window)
        if key and not pressed.press(key):
            return


def _prepare() -> None:
    with contextlib.suppress(curses.error):  # the terminal cannot hide its cursor
        curses.curs_set(0)
    if curses.has_colors():
        curses.use_default_colors()
        for colour in _COLOURS.values():
            curses.init_pair(colour, colour, -1)


def _key(window: curses.window) -> str:
    try:
        key = window.get_wch()
    except curses.error:  # nothing was pressed in time
        return ""
    if key == curses.KEY_RESIZE:
        window.clearok(True)  # terminals keep and move the old content: draw everything again
        return ""
    return _NAMES.get(key, key if isinstance(key, str) else "")


def _paint(window: curses.window, lines: list[str]) -> None:
    window.erase()
    height, width = window.getmaxyx()
    for row, line in enumerate(lines[:height]):
        column, attribute = 0, curses.A_NORMAL
        for index, piece in enumerate(_ANSI.split(line)):
            if index % 2:
                attribute = _attribute(int(piece), attribute)
            elif piece:
                # Writing the last cell of the last line moves the cursor off the screen, which curses calls an error.
                with contextlib.suppress(curses.error):
                    window.addstr(row, column, piece[: width - column], attribute)
                column = window.getyx()[1] if row < height - 1 else column + len(piece)
    window.refresh()


def _attribute(code: int, current: int) -> int:
    if code in _COLOURS:
        return current | curses.color_pair(_COLOURS[code])
    return current | _ATTRIBUTES.get(code, 0) if code else curses.A_NORMAL
