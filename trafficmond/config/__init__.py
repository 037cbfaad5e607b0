"""Settings: declared once each; read from TOML, the original's JSON and the command line; validated; watched."""
