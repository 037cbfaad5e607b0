"""The report for people and programs: text, JSON, CSV and HTML. Everything here needs only the report itself."""
