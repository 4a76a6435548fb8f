"""What a browser is shown of a campaign, and what it may ask for."""
