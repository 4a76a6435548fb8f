"""What only this machine knows: who has which experiment or lock, what is allowed, what a remote brought."""
