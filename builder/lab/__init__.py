"""The lab: on this machine, a container that behaves as a Proxmox host does, and a LAN beside it.

    packages what Debian must bring
    engine   a Docker engine
    daemon   which one: the machine's own, or one that is started for the lab
    image    Debian root file systems, made by mmdebstrap and cached by content
    shape    what a lab is, as values: addresses, files, foreign guests; decides, does nothing
    network  whether a network of the machine overlaps
    state    the lab's folder: keys, CA, ssh's configuration, the configs to build it from
    host     the containers
    up       lab.up and lab.down, in order
    commands what they print

Everything that lab.up makes is known by the label `phoenix.lab=NAME` or lies in the lab's folder,
so lab.down finds it without being told, however far lab.up came.
"""
