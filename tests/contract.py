"""Compare a stand-in's answers with those recorded from the real server."""

import json
from pathlib import Path

CONTRACTS = Path(__file__).parent / "contracts"


def load(server: str, method: str) -> list[dict]:
    return json.loads((CONTRACTS / server / f"{method}.json").read_text(encoding="utf-8"))


def assert_same_shape(recorded, answered, path="$"):
    """Assert that keys and JSON types are the same at every depth; values may differ.

    Lists are compared by their first elements. Where the recorded list has elements, the answered
    one must not be empty.
    """
    # Not isinstance: a bool is an int in Python, but not in JSON.
    kinds = type(recorded).__name__, type(answered).__name__
    assert kinds[0] == kinds[1], f"{path}: recorded {kinds[0]}, answered {kinds[1]}"

    if isinstance(recorded, dict):
        missing, added = recorded.keys() - answered.keys(), answered.keys() - recorded.keys()
        assert not missing, f"{path}: {sorted(missing)} missing"
        assert not added, f"{path}: {sorted(added)} never recorded"
        for key in recorded:
            assert_same_shape(recorded[key], answered[key], f"{path}.{key}")
    elif isinstance(recorded, list) and recorded:
        assert answered, f"{path}: answered an empty list"
        assert_same_shape(recorded[0], answered[0], f"{path}[0]")
