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
# Settings of trafficmond. Every setting is shown, commented out: what stays so keeps its default.
#
# After a change:   trafficctl check     shows mistakes
#                   trafficctl reload    puts it in force (also done by itself when this file changes)
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

`trafficmond` reads `{CONFIG_FILE}` (TOML), or the file given with `-c`. Without a file,
the daemon watches the interfaces of the default routes, reports threats to the journal and drops nothing.
`trafficctl check` shows every mistake in the file with its line, as `trafficmond -t -c FILE` does. Neither needs a
running daemon.

- When you save the file, the change takes effect at once. A setting that is marked takes effect at the next start;
  until then `status` names it.
- If the file has mistakes, nothing changes: the last good settings stay in force, also after a reboot. The first line
  of `trafficctl status` reports it.
- Flags of `trafficmond` override the file.

| value | how it is written |
|---|---|
| duration | a number and `ms`, `s`, `m`, `h`, `d` or `w`, also several together (`"1h30m"`) |
| size | a number and `B`, `KiB`, `MiB`, `GiB`, `TiB` (or `kB`, `MB`, `GB`, `TB`) |
| path | absolute, or relative to the folder of the file |
| rate | a number, `/` and `s`, `m`, `h` or `d` (`"20/m"`) |

A file whose name ends in `.json` is read as a configuration of the original traffic monitor. Its `permitted_cidrs`
become rules that allow, and its `logging` section becomes one `[[log]]`, whose path is relative to the working folder.
Packets of all other addresses are only logged; with `--drop-packets` they are dropped.

This page and the commented sample `etc/trafficmond.toml` are made from the declarations in
`trafficmond/config/`.

## Top level

"""
_REFERENCE_TAIL = """

## `[detect.NAME]`

Each detector of threats has a table of its own, named after it; [detectors.md](detectors.md) lists their settings.
A change takes effect at the next start.
"""


def documents() -> Mapping[Path, str]:
    """The text of each file, by its path from the project's root."""
    return {
        SAMPLE: _SAMPLE_HEAD + sample(Settings).rstrip() + _SAMPLE_TAIL,
        REFERENCE: _REFERENCE_HEAD + reference(Settings).rstrip() + _REFERENCE_TAIL,
        NOTIFY_SAMPLE: _NOTIFY_HEAD + sample(NotifySettings).rstrip() + "\n",
    }
