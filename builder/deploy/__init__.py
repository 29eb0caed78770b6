"""Puts a release on its host, over ssh, and takes it back.

`deploy` is the flow of a release that is `held`; `ssh` carries, `client` speaks with the host
program, `transfer` sends files, `references` reads secrets, `signers` says whose releases they are,
`effects` what a plan comes to; `following` awaits a transaction's end and `story` tells of it;
`memory` knows a host from the last time, `manage` does all else, `front` is what commands call.
"""
