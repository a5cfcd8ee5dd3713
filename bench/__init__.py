"""Benchmarks of the shop: `.venv/bin/python -m bench` prints figures, ratios and their targets."""
