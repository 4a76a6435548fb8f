"""Charts of a campaign: each is made as a Vega-Lite specification, and drawn into a file."""
