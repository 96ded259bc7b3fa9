"""The inputs of the networks and the classical models: log-mel frames, descriptors, pictures."""
