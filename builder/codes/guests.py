"""Codes of guests and machines."""

from __future__ import annotations

from builder.codes.code import Code

GUESTS = {
    "missing-role": Code(
        "A host without gateway, mesh or CA.",
        "Each host is a complete edge: nginx takes clients in, Traefik leads them to services, and "
        "Step-CA gives out the certificates in between.",
    ),
    "missing-template": Code(
        "A guest that is not there, and can't be made.",
        "A deploy creates each guest from its `template`, but for those with `adopt: true`, whose "
        "id exists already. With neither it would end half-way.",
    ),
    "missing-disk": Code(
        "A guest that is to be created without a disk.",
        "Proxmox would make one of 4 GiB in the storage `local`, which as installed holds no "
        "containers, and so refuse. A size alone means `local-lvm`.",
    ),
    "duplicate-role": Code(
        "A second gateway, mesh or CA.",
        "Names, routes and certificates lead to one of each.",
    ),
    "duplicate-id": Code(
        "One VMID for two.",
        "Containers and VMs share their ids, on a host and in a whole cluster. Proxmox refuses the "
        "second, or what was meant for one is done to the other.",
    ),
    "duplicate-name": Code(
        "One name for two.",
        "A name leads to one address, and a certificate proves one name. A name that two share "
        "hands one's traffic to the other.",
    ),
    "reserved-name": Code(
        "A name that is taken.",
        "`localhost` is each machine itself. As `site` the operator's own hosts file and zones are "
        "kept, beside the machines' kits.",
    ),
    "name-too-long": Code(
        "A name that no DNS can hold.",
        "DNS names have 253 characters at most, with the domain.",
    ),
    "start-order": Code(
        "A guest that starts before what it needs.",
        "After a power cut the guest would come up, find no CA or no mesh, and fail or wait. Leave "
        "`order` out and it is derived.",
    ),
    "interface-name": Code(
        "An interface that cannot be called so.",
        "A guest's interfaces are eth0, by which it is known, to eth31: Proxmox's net0 to net31.",
    ),
    "no-effect": Code(
        "A key that has no effect where it stands.",
        "It would be ignored, and whoever reads it takes it for true.",
    ),
    "not-whole": Code(
        "A size that is not counted so finely.",
        "Proxmox counts memory in whole MiB and disks in whole GiB. A rounded size would show up "
        "as a difference forever.",
    ),
    "mount-conflict": Code(
        "Mounts that lie within each other.",
        "The second hides the first, or part of it. Phoenix keeps its own files and state in the "
        "guest, and those must stay visible.",
    ),
    "mount-path": Code(
        "A folder that can't be mounted, or not there.",
        "Proxmox refuses paths with `..`, writes to the guest's system before each start, and "
        "systemd mounts over /run and /tmp. What lies below /var/lib/phoenix on the host is not "
        "for guests to see.",
    ),
    "wrong-device": Code(
        "A device that is no node below /dev.",
        "Proxmox refuses it, and the guest does not start.",
    ),
    "missing-major": Code(
        "A device that a privileged guest could not open.",
        "Plain LXC closes all devices to a privileged guest but those that a rule names, by the "
        "major number. Those of NVIDIA's uvm and AMD's kfd are given out when the host loads the "
        "driver; `ls -l` shows them there. An unprivileged guest needs none.",
    ),
    "duplicate-device": Code(
        "The same device twice.",
        "Only one of the two entries can count, with its owner and mode.",
    ),
}
