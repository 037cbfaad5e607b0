"""Databases of countries and autonomous systems. Pure, except for reading files."""
