"""A fleet's ClickHouse, which [[export]] fills, asked in place of one host's daemon (`--from`)."""
