"""gunicorn's settings besides its command line; it reads this file by itself."""

import os
import shutil
import tempfile

# Load the app before the port opens: a wrong setting is reported once, and gunicorn stops.
preload_app = True
# Nothing uses this socket, which would lie in ~/.gunicorn.
control_socket_disable = True
# A directory, new at each start, where its processes write their counters: each shows the sum of
# all at /metrics. The app reads this when it is loaded.
counters = tempfile.mkdtemp(prefix="lightning-space-metrics-")
os.environ["PROMETHEUS_MULTIPROC_DIR"] = counters


def on_exit(server):
    shutil.rmtree(counters, ignore_errors=True)
