"""The one program of a foreign guest: gives back what it is sent, to any number of clients."""

import signal
import socketserver
import sys


class Echo(socketserver.BaseRequestHandler):
    """One client, until it closes."""

    def handle(self) -> None:
        """Give back what comes."""
        while data := self.request.recv(65536):
            self.request.sendall(data)


class Server(socketserver.ThreadingTCPServer):
    """Listens on all addresses."""

    allow_reuse_address = True
    daemon_threads = True


# The first process of a guest gets no signal that it does not ask for.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
Server(("", 7), Echo).serve_forever()
