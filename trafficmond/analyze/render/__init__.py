"""The report for people and programs: text, JSON, CSV and HTML. Nothing here needs more than the report itself."""
