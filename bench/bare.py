"""Flask alone: one route that returns a constant, to compare the shop's routes with."""

import os

from flask import Flask

app = Flask(__name__)
CONSTANT = "x" * int(os.environ["BENCH_BYTES"])


@app.get("/")
def constant():
    return CONSTANT
