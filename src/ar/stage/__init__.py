"""What runs inside DVC's `$SHELL`, around one stage command; standard library only."""
