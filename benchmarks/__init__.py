"""Measurements side by side; each module is a script that prints its table and writes JSON."""
