"""Referees by other hands: what is written here by hand is read, measured or drawn by what others wrote."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

HERE = Path(__file__).parents[1]
sys.path += [str(HERE / folder) for folder in ("control", "metrics", "export", "compare", "analyze")]
logging.getLogger("scapy.runtime").setLevel(logging.ERROR)
