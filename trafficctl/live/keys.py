"""The keys of the live screen. Pure, except for the ban that a key may request."""

from collections.abc import Callable

from trafficctl.live.model import PAGE, Live
from trafficmond.model import LIVE_WINDOWS_S

ENTER, ESCAPE, BACKSPACE, TAB = "enter", "escape", "backspace", "tab"
UP, DOWN, PAGE_UP, PAGE_DOWN, HOME, END = "up", "down", "page up", "page down", "home", "end"
_FAR = 1_000_000
_MOVES = {UP: -1, DOWN: 1, "k": -1, "j": 1, PAGE_UP: -PAGE, PAGE_DOWN: PAGE, HOME: -_FAR, END: _FAR}
_WINDOWS = {str(index): window for index, window in enumerate(LIVE_WINDOWS_S, 1)}
_ASK_AGAIN = (*_WINDOWS, "s", "n", " ")


class Keys:
    """Turns keys (characters or the names above) into changes of state. `ban` bans an address, returns a message."""

    def __init__(self, live: Live, ban: Callable[[str], str]) -> None:
        self._live = live
        self._ban = ban
        self.helping = False
        self.stale = False  # the question to the daemon has changed: ask again now

    def press(self, key: str) -> bool:
        """Handles a key; returns False to quit."""
        live = self._live
        live.message = ""
        if self.helping:
            self.helping = False
        elif live.choices:
            self._choose(key)
        elif live.prompt:
            self._type(key)
        elif key in ("q", "Q"):
            return False
        else:
            self._command(key)
        return True

    def _command(self, key: str) -> None:
        live = self._live
        if key in _MOVES:
            live.move(_MOVES[key])
        elif key in _WINDOWS:
            live.window_s = _WINDOWS[key]
        elif key == TAB:
            live.next_list()
        elif key == "s":
            live.next_sort()
        elif key == "n":
            live.names = not live.names
        elif key == "p":
            live.paused = not live.paused
        elif key == "/":
            live.prompt, live.typed = "only (address, prefix, port or protocol): ", live.match
        elif key == "b":
            self._ask_whom()
        elif key in ("?", "h"):
            self.helping = True
        self.stale |= key in _ASK_AGAIN

    def _ask_whom(self) -> None:
        live = self._live
        live.choices = live.addresses()
        if not live.choices:
            live.message = "nothing is selected"
            return
        listed = "  ".join(f"[{index}] {address}" for index, address in enumerate(live.choices, 1))
        live.prompt = f"ban {listed}  (any other key: cancel) "

    def _choose(self, key: str) -> None:
        live = self._live
        choices, live.choices, live.prompt = live.choices, [], ""
        if key.isdigit() and 1 <= int(key) <= len(choices):
            live.message = self._ban(choices[int(key) - 1])
        else:
            live.message = "nobody was banned"

    def _type(self, key: str) -> None:
        live = self._live
        if key == ENTER:
            live.match, live.prompt, live.typed = live.typed.strip(), "", ""
            self.stale = True
        elif key == ESCAPE:
            live.prompt, live.typed = "", ""
        elif key == BACKSPACE:
            live.typed = live.typed[:-1]
        elif len(key) == 1 and key.isprintable():
            live.typed += key
