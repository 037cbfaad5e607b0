"""watchdog's observer of inotify."""

import contextlib
import importlib
from typing import Any

from watchdog.observers.inotify import InotifyObserver as _InotifyObserver

# watchdog delays a file moved out of a folder by half a second, to find its new place, which is not needed here.
# The second module is that of watchdog 7 and later.
for _module, _name in (("inotify_buffer", "InotifyBuffer"), ("inotify_move_event_grouper", "InotifyMoveEventGrouper")):
    with contextlib.suppress(ModuleNotFoundError):
        getattr(importlib.import_module(f"watchdog.observers.{_module}"), _name).delay = 0.0
InotifyObserver: Any = _InotifyObserver  # has no types
