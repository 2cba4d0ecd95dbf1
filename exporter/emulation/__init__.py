"""The shipped bytes on CPUs that this machine does not have, by QEMU's user mode."""
