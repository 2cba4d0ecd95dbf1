"""Where a file's time goes, operator by operator, and what would make it faster."""
