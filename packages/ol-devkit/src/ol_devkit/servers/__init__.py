"""Real servers for tests, each on free loopback ports and with its data in a folder of the caller's."""
