"""Traditional methods in the same harness as the networks."""
