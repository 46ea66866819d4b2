"""Explanations as one HTML file and as matplotlib figures."""
