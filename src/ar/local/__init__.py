"""What only this machine knows: who has which experiment, and who holds which lock."""
