"""Tonearm listens to music and says its genre."""

__version__ = "0.1.0"
