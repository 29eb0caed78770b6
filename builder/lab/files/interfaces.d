# the second port, when its card is back from repair
iface eth1 inet manual

# crash cart
iface usb0 inet static
	address 192.0.2.66/24
