"""Bundles as one file: archives, signatures, and what is checked before they are trusted."""
