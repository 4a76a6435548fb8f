"""What other programs are told of a campaign, and what they may do in it."""
