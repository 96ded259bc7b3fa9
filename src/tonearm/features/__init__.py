"""What the networks and the classical models see: log-mel frames, descriptors, pictures."""
