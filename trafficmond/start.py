"""Starts the daemon: imports most of it while the kernel verifies the programs, which takes as long."""

import os
import sys
from contextlib import ExitStack, closing

from trafficmond import heap, part_options
from trafficmond.config.flags import Flags
from trafficmond.config.load import SettingsFile
from trafficmond.config.settings import CONFIG_FILE, Settings
from trafficmond.control.listen import open_socket
from trafficmond.datapath.loading import load_in_thread
from trafficmond.errors import ConfigError
from trafficmond.later import numpy_alone


def run(file: SettingsFile, flags: Flags) -> None:
    """Runs the daemon until it is stopped. Raises TrafficmonError if it cannot start."""
    os.umask(0o027)
    heap.keep_large_apart()
    heap.share()
    own = file.own() or valid(file, flags)[0]
    with closing(open_socket(own.control_socket)) as listener, ExitStack() as stack:
        with numpy_alone(), heap.uncollected():
            loading = stack.enter_context(load_in_thread(part_options.options(own)))
            settings, wrong = valid(file, flags)
            if wrong and part_options.options(settings) != part_options.options(own):
                stack.close()
                loading = stack.enter_context(load_in_thread(part_options.options(settings)))
            sys.modules["ssl"] = sys.modules["_hashlib"] = None  # type: ignore[assignment]  # OpenSSL: unused, 5 ms
            import asyncio

            from trafficmond.run import live

            del sys.modules["ssl"], sys.modules["_hashlib"]
        asyncio.run(live(settings, flags, listener, loading, wrong))


def settings_file(flags: Flags) -> SettingsFile:
    """The settings file that the flags name, else the usual one, even if it is gone but was in force last."""
    file = SettingsFile(None, flags)
    if file.path is None:
        from trafficmond.policy.lastgood import LAST_GOOD_NAME, LastGood

        if LastGood(file.state_dir() / LAST_GOOD_NAME).kept_of(CONFIG_FILE):
            return SettingsFile(CONFIG_FILE, flags)
    return file


def valid(file: SettingsFile, flags: Flags) -> tuple[Settings, ConfigError | None]:
    """All settings; if the file has mistakes, those in force last, and the mistakes. Raises ConfigError without any."""
    try:
        return _whole(file), None
    except ConfigError as error:
        from trafficmond.policy.lastgood import LAST_GOOD_NAME, LastGood

        copy = file.path and LastGood(file.state_dir() / LAST_GOOD_NAME).copy_of(file.path)
        if not copy:
            raise
        try:
            return _whole(SettingsFile(file.path, flags, copy.decode())), error
        except ConfigError:  # another version kept them
            raise error from None


def _whole(file: SettingsFile) -> Settings:
    """All settings, with those of the detectors, whose import brings most of the other modules."""
    from trafficmond.detect.registry import settings_classes

    return file.settings(settings_classes())
