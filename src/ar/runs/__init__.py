"""From a queued experiment to its commit and note."""
