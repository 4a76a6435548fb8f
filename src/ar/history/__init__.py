"""What happened: experiments and attempts, read from git and shared through it."""
