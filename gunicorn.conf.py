"""What gunicorn is to do besides what its command line says; it reads this file by itself."""

# Before the port is open: a wrong setting is said once, and ends it.
preload_app = True
# Nobody asks it anything by this socket, which would lie in ~/.gunicorn.
control_socket_disable = True
