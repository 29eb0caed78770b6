"""The host program on a host below a folder, as sshd's forced command: `served.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from builder.host.serve import Session
from tests.deploy.making import Staged

if __name__ == "__main__":
    stage = Staged(Path(sys.argv[1]))
    Session(stage.host(), stage.follow).run(sys.stdin.buffer, sys.stdout.buffer)
