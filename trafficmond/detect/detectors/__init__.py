"""The detectors: a file each, found by `detect.registry`."""
