"""The report as one page for a browser: no network, no scripts, light and dark, also on a phone.

On top stands what a reader wants to know first, with pictures; below it the whole of ``report.md``.
"""
