"""Benchmarks of the shop: `.venv/bin/python -m bench` prints figures and ratios, with targets."""
