"""`invoke demo`: the reference network, built, deployed onto a lab and used, before one's eyes."""
