"""Run the measurements named on the command line, or all: `.venv/bin/python -m bench [what …]`."""

import argparse
import signal
import sys

from bench import gate, measures, scale, tokens

MEASURES = {
    "status": measures.status,
    "orders": measures.orders,
    "ready": measures.ready,
    "burst": measures.burst,
    "memory": measures.memory,
    "opening": measures.opening,
    "idle": measures.idle,
    "calendar": measures.calendar_passes,
    "l402": tokens.measure,
    "gate": gate.measure,
    "scale": scale.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure the shop against its sandbox. Figures are printed with their targets. "
        "A missed target is no failure: on a busy machine it is missed too.",
    )
    parser.add_argument("what", nargs="*", choices=[*MEASURES, "all"], default="all")
    chosen = parser.parse_args().what
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    for name, measure in MEASURES.items():
        if "all" in chosen or name in chosen:
            measure()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("ended")
