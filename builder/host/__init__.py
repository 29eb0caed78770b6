"""The host program. It imports nothing but the standard library; docs/host.md says how it works."""

VERSION = 1
"""Grows with what is written on the host. A program gives way to none of a lower number, which
might not read what this one wrote."""
