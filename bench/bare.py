"""What Flask alone can do: one route that returns a constant, to hold the shop's against."""

import os

from flask import Flask

app = Flask(__name__)
CONSTANT = "x" * int(os.environ["BENCH_BYTES"])


@app.get("/")
def constant():
    return CONSTANT
