"""Codes of services, the names and ports they are met at, and their certificates."""

from __future__ import annotations

from builder.codes.code import Code

SERVICES = {
    "unknown-service": Code(
        "A host realises a service that the site does not have.",
        "Nothing would be built for it.",
    ),
    "unknown-backend": Code(
        "A backend that is no guest or machine of the host.",
        "The mesh would not know where to send requests. Each host realises the site's services "
        "with guests of its own: declare it there, or list in the host's `services` those that it "
        "realises.",
    ),
    "unknown-guest": Code(
        "A caller or scraper that is no guest or machine of the host.",
        "The one that was meant would be refused by mesh and firewall.",
    ),
    "backend-target": Code(
        "A backend that says both or neither of `name` and `address`.",
        "What has a name on the host is given by it: its front, its certificate and the firewall's "
        "rules follow from the name. An address is for what is elsewhere.",
    ),
    "duplicate-backend": Code(
        "The same backend twice.",
        "A `weight` gives one a larger share. A guest has one front for a service, so a second "
        "port of it would never be used.",
    ),
    "missing-server-name": Code(
        "A backend elsewhere without the name in its certificate.",
        "Every hop is encrypted and verified. Without the name, any certificate would do, or none.",
    ),
    "wrong-role": Code(
        "A service in the gateway, mesh or CA.",
        "Those guests have their own ports, rules and updates. A service gets a guest of its own.",
    ),
    "missing-health": Code(
        "Several backends without a health check.",
        "A dead backend would go on getting its share of the requests, and each of these fail.",
    ),
    "health-interval": Code(
        "A health check that does not fit its interval.",
        "A check must end before the next begins, and come often enough to be of use.",
    ),
    "protocol-option": Code(
        "An option that the service's protocol has no meaning for.",
        "It would be ignored. tcp has no paths, headers or cookies, and HTTP services share port "
        "443 of the gateway.",
    ),
    "missing-port": Code(
        "A tcp service that is exposed without a port.",
        "HTTP services share port 443, since a request says which one it is for. tcp says nothing "
        "of the kind, so each such service has a port of the gateway for itself.",
    ),
    "duplicate-plain": Code(
        "A hop that is plain twice.",
        "Each build lists the plain hops with their reason; one of the two would be lost.",
    ),
    "duplicate-cookie": Code(
        "Two sticky services with one cookie under one name.",
        "A browser sends a name's cookies to all that answers under it. Each service would "
        "overwrite what the other remembers, and clients would change backends all the time.",
    ),
    "duplicate-header": Code(
        "The same header twice.",
        "Upper and lower case mean nothing in a header's name, so one of the two would win by "
        "chance.",
    ),
    "reserved-header": Code(
        "A header that proxies set themselves.",
        "It says how one connection is to be read. A fixed value breaks requests, and can make two "
        "proxies disagree where one ends and the next begins.",
    ),
}

NAMES = {
    "duplicate-exposed-name": Code(
        "An exposed name and path that leads to a service already.",
        "Only one of the two would be reached. A slash at the end of a path says nothing: `/v1` "
        "and `/v1/` are the same.",
    ),
    "duplicate-listener": Code(
        "Two programs on one port.",
        "Only one can listen there. The other would not start, or be met by the wrong clients.",
    ),
    "reserved-port": Code(
        "A port that is not to be had.",
        "Of a guest, port 80 proves its certificate and two ranges belong to the slots of nginx "
        "and Traefik. Of a routed host, ssh and Proxmox's own ports stay with the host: led to the "
        "gateway guest, they would lock its operator out.",
    ),
    "unknown-exposed-name": Code(
        "A certificate for a name that nothing exposes.",
        "It would never be ordered, while the name that was meant gets one from the site's CA.",
    ),
    "unknown-directory": Code(
        "A certificate from an ACME directory that is not declared.",
        "Nobody would issue it.",
    ),
    "missing-provider": Code(
        "A dns-01 challenge without the DNS provider.",
        "The name is proven by a record in its zone, and how to write one differs from provider "
        "to provider.",
    ),
    "unknown-provider": Code(
        "A DNS provider that the pinned lego does not know.",
        "No certificate would ever be ordered. Its providers are those of `lego dnshelp`.",
    ),
    "reserved-variable": Code(
        "A variable that is no credential.",
        "lego is given each as a file, which NAME_FILE names. Some such names mean something else "
        "to lego or to the system below it, and another `_FILE` behind one means nothing.",
    ),
    "lifetime-too-short": Code(
        "A certificate that would end before it can be renewed.",
        "Renewal needs time for a second and third try, and what signs must outlive what it signs. "
        "Otherwise one bad night ends all encrypted traffic.",
    ),
    "lifetime-too-long": Code(
        "A certificate that lives too long.",
        "Browsers and phones refuse certificates of more than 825 days, and some programs can't "
        "count that far.",
    ),
}
