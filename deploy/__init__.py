"""What goes to the device, verbatim: files that need nothing from this project."""
