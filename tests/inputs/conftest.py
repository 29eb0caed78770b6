"""What only these tests need of the machine."""

from tests import needs

needs.NEEDS.setdefault("apt-get", needs.program("apt-get", "apt"))
