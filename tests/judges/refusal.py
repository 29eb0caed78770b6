"""What a judge says when a program does not take a file."""

from __future__ import annotations


class Refused(Exception):  # noqa: N818 - a verdict, not an error
    """`program` did not accept what it was given; `output` is what it said, whole."""

    def __init__(self, program: str, output: str) -> None:
        super().__init__(f"{program} refused:\n{output.rstrip()}")
        self.program = program
        self.output = output


class Broken(Exception):  # noqa: N818
    """The judge itself could not work: no root file system, no right to make namespaces, …"""
