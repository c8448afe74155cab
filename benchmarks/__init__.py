"""One module per performance claim: ratios measured in one run, as these machines are shared and noisy."""
