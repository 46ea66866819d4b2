"""Intervals and decisions."""
