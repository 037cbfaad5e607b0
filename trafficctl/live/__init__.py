"""The live screen of `trafficctl top`: its state (`model`), its lines (`screen`), its keys, and the `terminal`."""
