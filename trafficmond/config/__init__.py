"""Settings: each declared once; read from TOML, the original's JSON and the command line; validated whole; watched."""
