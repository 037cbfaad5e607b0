"""The live screen of `trafficctl top`: what it knows (`model`), how it looks (`screen`), the terminal (`terminal`)."""
