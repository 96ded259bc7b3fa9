"""Metrics, protocols, comparisons and reports."""
