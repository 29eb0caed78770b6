"""Start a command, wait for its end, and write what it took to the descriptor named first.

A program of its own, and a small one: Linux counts in a process's largest memory what the one
that started it had itself, and what measures is larger than much that it measures.
"""

import json
import os
import sys
import time

if __name__ == "__main__":
    told, command = int(sys.argv[1]), sys.argv[2:]
    os.set_inheritable(told, False)
    began = time.perf_counter()
    child = os.posix_spawnp(command[0], command, os.environ)
    _, status, used = os.wait4(child, 0)
    found = (time.perf_counter() - began, used.ru_maxrss / 1024, os.waitstatus_to_exitcode(status))
    os.write(told, json.dumps(found).encode())
