"""The shipped bundle on other machines: run over ssh, read back, put into the report."""
