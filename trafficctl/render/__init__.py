"""Renders replies as text. Pure, so that every width and format can be tested without a terminal."""
