"""A person's own music: what is in its tags, and how it gets there."""
