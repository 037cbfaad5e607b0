"""Starts the daemon: imports most of it while the kernel verifies the programs, which takes as long."""

from __future__ import annotations

import os
from contextlib import closing

from trafficmond import heap, part_options
from trafficmond.config.flags import Flags
from trafficmond.config.load import SettingsFile
from trafficmond.config.settings import Settings
from trafficmond.control.listen import open_socket
from trafficmond.datapath.loading import begun


def run(file: SettingsFile, flags: Flags) -> None:
    """Runs the daemon until it is stopped. Raises TrafficmonError if it cannot start."""
    os.umask(0o027)
    heap.keep_large_apart()
    heap.share()
    own = file.own() or _whole(file)
    with closing(open_socket(own.control_socket)) as listener, begun(part_options.options(own)) as loading:
        with heap.uncollected():
            settings = _whole(file)
            from trafficmond.run import live
        live(settings, flags, listener, loading)


def _whole(file: SettingsFile) -> Settings:
    """All settings, with those of the detectors, whose import brings most of the other modules."""
    from trafficmond.detect.registry import settings_classes

    return file.settings(settings_classes())
