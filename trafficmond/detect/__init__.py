"""The threat engine: flow batches in, threats out. Pure; see `engine.Engine` and `registry`."""
