"""Databases of countries and networks (autonomous systems): files, read as tables. Pure but for reading."""
