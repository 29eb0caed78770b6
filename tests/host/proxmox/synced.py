"""The host program, saying when it has a file system written through: a line of JSON for each
syncfs, with the folder, how many states the cluster had then, and whether the journal was there.

    synced.py PROGRAM ARGUMENT…
"""

import json
import os
import socket
import sys
from typing import Any

sys.path.insert(0, sys.argv[1])
files = __import__("host.files").files
main = __import__("host.__main__").__main__.main
real = files.sync_all


def states() -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as to:
        to.connect("/run/pmxcfs")
        with to.makefile("rw") as stream:
            stream.write("{}\n")
            stream.flush()
            return int(stream.readline())


def sync_all(path: Any) -> None:
    real(path)
    open_ = os.path.exists("/var/lib/phoenix/journal")
    print(json.dumps({"synced": str(path), "states": states(), "journal": open_}))


files.sync_all = sync_all
sys.exit(main(sys.argv[2:]))
