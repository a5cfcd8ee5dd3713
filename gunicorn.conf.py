"""Settings of gunicorn that are not on its command line; it reads this file by itself."""

import os
import shutil
import tempfile

# Load the app before the port opens: a wrong setting is reported once, and gunicorn stops.
preload_app = True
# Nothing uses the control socket, which would be in ~/.gunicorn.
control_socket_disable = True
# The processes write their counters to this directory, new at each start, so that each of them
# shows the sum of all at /metrics. The app reads the variable when it is loaded.
counters = tempfile.mkdtemp(prefix="lightning-space-metrics-")
os.environ["PROMETHEUS_MULTIPROC_DIR"] = counters


def on_exit(server):
    shutil.rmtree(counters, ignore_errors=True)
