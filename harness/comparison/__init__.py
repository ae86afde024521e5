"""Comparing finished runs: read, grouped, measured, drawn, written."""
