"""What experiments change: the network, its optimizer, its schedule and the training loop."""
