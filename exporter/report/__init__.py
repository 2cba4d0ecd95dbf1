"""What a build or a verification found, and its three forms: JSON, terminal, Markdown."""
