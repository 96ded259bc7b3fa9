"""Traditional methods, evaluated in the same harness as the networks."""
