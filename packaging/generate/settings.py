"""The sample file and the reference, from the declared settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rendering import reference, sample

from trafficmond.config.settings import CONFIG_FILE, Settings
from trafficmond.notifier.settings import Settings as NotifySettings

SAMPLE = Path("etc/trafficmond.toml")
REFERENCE = Path("docs/configuration.md")
NOTIFY_SAMPLE = Path("packaging/samples/notify.toml")

_SAMPLE_HEAD = """\
# Settings of trafficmond. Every setting is shown, commented out. A setting that stays commented out keeps its default.
#
# After a change:   trafficctl check     shows mistakes
#                   trafficctl reload    puts the change in force (the daemon also does that by itself)
#
# Durations are written "500ms", "30s", "5m", "1h30m", "30d"; sizes "64KiB", "100MiB", "2GiB".
# A relative path starts at the folder of this file. Rules live in cidr.d/, see trafficmon-rules(5).

"""
_SAMPLE_TAIL = """

# Each detector of threats has a table of its own, [detect.port_scan] and so on; see detectors.md.
"""

_NOTIFY_HEAD = """\
# Settings of trafficmon-notify, which tells people of threats. It needs at least one [[target]].
#
#   sudo install -m 600 notify.toml /etc/trafficmon/      it holds passwords: keep it to root
#   sudo trafficctl notify --test                         sends a message to every target
#   sudo systemctl enable --now trafficmon-notify         (restart, after a change)

"""

_REFERENCE_HEAD = f"""\
# Configuration

Use this page to look up a setting: what it does, its default, and its limits.

`trafficmond` reads `{CONFIG_FILE}` (TOML), or the file given with `-c`. If there is no file, the daemon watches the
interfaces of the default routes, reports threats to the journal and drops nothing. `trafficctl check` shows every
mistake in the file with its line, and so does `trafficmond -t -c FILE`. Both commands work without the daemon.

- When you save the file, the changes take effect at once. Exceptions are the settings with *Takes effect at the next
  start*: if you change one of them, `trafficctl status` lists it until you restart the daemon.
- If the file has mistakes, nothing changes: the last good settings stay in force, also after a reboot. The first line
  of `trafficctl status` reports the mistake.
- Flags of `trafficmond` override the settings in the file.

| value | how it is written |
|---|---|
| duration | a number and `ms`, `s`, `m`, `h`, `d` or `w` (`"30s"`); several can be combined (`"1h30m"`) |
| size | a number and `B`, `KiB`, `MiB`, `GiB`, `TiB` (or `kB`, `MB`, `GB`, `TB`) |
| path | absolute, or relative to the folder of the settings file |
| rate | a number, `/` and `s`, `m`, `h` or `d` (`"20/m"` is 20 a minute) |

If the file's name ends in `.json`, the daemon reads it as a configuration of the original traffic monitor
([migrating.md](migrating.md)). The `permitted_cidrs` of that file become a rule that allows them. The file's `logging`
section becomes one `[[log]]`, whose path is relative to the daemon's working folder (unlike other paths). Packets of
addresses outside `permitted_cidrs` are only logged; with the flag `--drop-packets` they are dropped.

This page and the commented sample `etc/trafficmond.toml` are generated from the declarations in `trafficmond/config/`.

## Top level

"""
_REFERENCE_TAIL = """

## `[detect.NAME]`

Each detector of threats has a table with its name, such as `[detect.port_scan]`. [detectors.md](detectors.md) lists the
settings. A change takes effect at the next start.
"""


def documents() -> Mapping[Path, str]:
    """The text of each file, by its path from the project's root."""
    return {
        SAMPLE: _SAMPLE_HEAD + sample(Settings).rstrip() + _SAMPLE_TAIL,
        REFERENCE: _REFERENCE_HEAD + reference(Settings).rstrip() + _REFERENCE_TAIL,
        NOTIFY_SAMPLE: _NOTIFY_HEAD + sample(NotifySettings).rstrip() + "\n",
    }
