"""Labelled collections of recordings as tables of tracks."""
