"""Codes of hosts as documents, and of certificates in configs/ca."""

from __future__ import annotations

from builder.codes.code import Code

HOSTS = {
    "host-name": Code(
        "A host whose file is called otherwise.",
        "Commands name a host by its file. Two names for one machine sooner or later lead a "
        "release to the wrong one.",
    ),
    "unknown-host": Code(
        "`like` names a host that is not described.",
        "There is nothing to take over, so most of the host would be missing.",
    ),
    "duplicate-reach": Code(
        "Two hosts that are reached at one place.",
        "What is meant for the one would be done to the other. With `like`, a host takes over "
        "`reach` too, so it has to say its own.",
    ),
    "like-cycle": Code(
        "Hosts take over from each other in a circle.",
        "One of them has to be complete by itself.",
    ),
    "nothing-to-remove": Code(
        "A `null` that takes away what is not there.",
        "With `like`, `null` removes what the other host has. With the key misspelt, that stays "
        "in place unnoticed.",
    ),
    "literal-secret": Code(
        "Something that looks like a secret itself.",
        "Configuration lives in version control and in releases, and a secret must be in neither. "
        "Where a secret is meant, a reference says where the deployer's machine finds it. Where "
        "none can be given, as in a header, the program has to get it another way. What was "
        "committed once is to be replaced.",
    ),
    "platform-option": Code(
        "An option that the platform would ignore or refuse.",
        "Proxmox swallows much without a word, and plain LXC has no place for what is Proxmox's "
        "own. The guest would run otherwise than described.",
    ),
    "reach-lost": Code(
        "An address to reach the host by that it would no longer have.",
        "After the deploy the host could not be reached where the next one looks for it; the "
        "confirmation would fail, and all be rolled back.",
    ),
    "wrong-reach": Code(
        "`reach` is neither an address nor a name.",
        "It is handed to ssh as it stands. A port, a key or a jump host is the matter of ssh's own "
        "configuration.",
    ),
}

AUTHORITY = {
    "ca-unreadable": Code(
        "A file in configs/ca that is not one certificate.",
        "Guests are to trust exactly the site's root. A second certificate in the file, or a key, "
        "has no business there.",
    ),
    "ca-not-root": Code(
        "A root that may not sign intermediates.",
        "Programs would refuse every certificate below it.",
    ),
    "ca-not-intermediate": Code(
        "A host's certificate that is no intermediate's.",
        "Programs would refuse every certificate that the host's CA gives out. The root itself "
        "never leaves its safe place.",
    ),
    "ca-not-issued": Code(
        "A host's intermediate that another root has signed.",
        "Guests trust the site's root only, so they would trust nothing of this host. Mostly the "
        "root was made anew; make the intermediates anew too.",
    ),
    "ca-outlives-root": Code(
        "An intermediate that ends after its root.",
        "From the root's end on nothing is trusted, while the CA goes on signing.",
    ),
    "ca-too-early": Code(
        "A certificate that is not valid yet.",
        "Mostly the clock of this machine, or of the one that made it, is wrong.",
    ),
    "ca-expired": Code(
        "A certificate that has expired.",
        "Nothing below it is trusted any more. `invoke ca.init` makes a new one.",
    ),
    "ca-ends": Code(
        "An authority that ends before what it would sign now.",
        "step-ca refuses to give out a certificate that lives longer than its own. Make a new "
        "intermediate before that day.",
    ),
}
