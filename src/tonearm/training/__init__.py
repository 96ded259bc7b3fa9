"""Training of the networks with Lightning, and their export to bundles."""
