"""Charts beside the progress chart, as Vega-Lite specifications; `plots.save` draws them."""
