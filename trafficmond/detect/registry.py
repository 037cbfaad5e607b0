"""The detectors, in the order in which they are asked: those that explain more come before those that yield to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trafficmond.detect.amplification import Amplification
from trafficmond.detect.base import Detector
from trafficmond.detect.beacon import Beacon
from trafficmond.detect.blocklisted import Blocklisted
from trafficmond.detect.brute_force import BruteForce
from trafficmond.detect.exfiltration import Exfiltration
from trafficmond.detect.host_sweep import HostSweep
from trafficmond.detect.port_scan import PortScan
from trafficmond.detect.repeated_flow import RepeatedFlow
from trafficmond.detect.syn_flood import SynFlood
from trafficmond.detect.unusual_protocol import UnusualProtocol
from trafficmond.detect.volume import Volume

DETECTORS: Mapping[str, type[Detector]] = {
    detector.name: detector
    for detector in (
        SynFlood,
        Amplification,
        Volume,
        PortScan,
        HostSweep,
        BruteForce,
        Beacon,
        Exfiltration,
        Blocklisted,
        UnusualProtocol,
        RepeatedFlow,
    )
}


def settings_classes() -> dict[str, type[Any]]:
    """Each detector's declared Settings by its name, as `config.load_settings` wants them."""
    return {name: detector.settings_class for name, detector in DETECTORS.items()}


def make_detectors(settings: Mapping[str, Any] | None = None) -> list[Detector]:
    """The enabled detectors with their settings; those not in `settings` get their defaults."""
    chosen = settings or {}
    made = []
    for name, detector in DETECTORS.items():
        own = chosen.get(name) or detector.settings_class()
        if own.enabled:
            made.append(detector(own))
    return made
