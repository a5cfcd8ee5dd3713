"""gunicorn's settings besides its command line; it reads this file by itself."""

# Load the app before the port opens: a wrong setting is reported once, and gunicorn stops.
preload_app = True
# Nothing uses this socket, which would lie in ~/.gunicorn.
control_socket_disable = True
