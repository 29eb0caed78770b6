"""The real programs as judges of what is rendered.

Each judge is a module of plain functions that take files (a `guest.Guest`, or a text), let the
program itself load them, and return what it says that it loaded; or raise `refusal.Refused`. What
a program swallows with a warning, or without a word, is refused by the judge too, as far as what
was written can be compared with what is held.

    nginx      check: `nginx -t -T`             serve: running, for requests
    traefik    load: started, asked by its API  serve: running
    step_ca    load: started, its directories   serve: running; issue: lego by http-01
    ifupdown2  check: ifup -s and ifquery
    lxc        load, load_all: by liblxc
    systemd    verify, security: by systemd-analyze
    nft        check: loaded into a kernel, twice, and read back

Under them, `namespace.Space` is a throw-away Debian machine made in some ten milliseconds (an
overlay over `rootfs`, own processes and network), by an agent per test process that takes all
with it when it ends; `guest` lays a guest's files out in one; `programs` are the pinned programs;
`pki` throw-away certificates; `http` a client in a space's network.

Not here: Proxmox's own parsers of NNN.conf and NNN.fw. They are Perl from Proxmox's archive, not
Debian's, and rewriting them here would prove nothing but that we agree with ourselves.
"""
