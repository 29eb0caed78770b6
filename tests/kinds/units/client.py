"""A client that never retries, as a program of its own: once, or load until it is told to stop.

once  ADDRESS PORT NAME PATH ROOT   one request; prints status and body
load  ADDRESS PORT NAME PATH ROOT   kept connections and new ones, until SIGTERM; prints how many
                                    requests were answered, and each failure
reach ADDRESS PORT…                 for each port: open, refused, or silent for half a second
"""

from __future__ import annotations

import http.client
import signal
import socket
import ssl
import sys
import threading

LONGEST = 120


def connection(address: str, port: str, name: str, root: str) -> http.client.HTTPSConnection:
    context = ssl.create_default_context(cafile=root)
    made = http.client.HTTPSConnection(name, int(port), context=context, timeout=20)
    plain = socket.create_connection((address, int(port)), timeout=20)
    made.sock = context.wrap_socket(plain, server_hostname=name)
    return made


def once(address: str, port: str, name: str, path: str, root: str) -> None:
    try:
        asking = connection(address, port, name, root)
        asking.request("GET", path)
        answer = asking.getresponse()
        print(answer.status, answer.read().decode(errors="replace"))
    except OSError as error:
        print(f"{type(error).__name__}: {error}")


def load(address: str, port: str, name: str, path: str, root: str) -> None:
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    answered, failed = [0, 0], list[str]()

    def run(kept: bool) -> None:
        asking = None
        while not ended.is_set():
            try:
                if asking is None:
                    asking = connection(address, port, name, root)
                asking.request("POST", path, body=b"x" * 500)
                answer = asking.getresponse()
                answer.read()
                if answer.status != 200:
                    failed.append(f"{'kept' if kept else 'new'}: {answer.status}")
                answered[kept] += 1
                # Of two such headers, the standard library looks at the first alone.
                said = ",".join(answer.headers.get_all("Connection") or ()).lower()
                if not kept or answer.will_close or "close" in said:
                    asking.close()
                    asking = None
            except (OSError, http.client.HTTPException) as error:
                failed.append(f"{'kept' if kept else 'new'}: {type(error).__name__} {error}")
                asking = None

    threads = [threading.Thread(target=run, args=[kept]) for kept in (True, True, False)]
    for thread in threads:
        thread.start()
    print("started", flush=True)
    # Bounded, in case that nobody is left to send the signal.
    ended.wait(LONGEST)
    ended.set()
    for thread in threads:
        thread.join()
    print(f"answered {sum(answered)}", *failed[:20], sep="\n")


def reach(address: str, *ports: str) -> None:
    for port in ports:
        try:
            socket.create_connection((address, int(port)), timeout=0.5).close()
            print(port, "open")
        except ConnectionRefusedError:
            print(port, "refused")
        except TimeoutError:
            print(port, "silent")


if __name__ == "__main__":
    {"once": once, "load": load, "reach": reach}[sys.argv[1]](*sys.argv[2:])
