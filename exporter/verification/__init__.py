"""Whether the shipped bytes are accurate and fast enough, measured on this machine."""
