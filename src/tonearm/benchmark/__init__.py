"""Compare many systems, each trained afresh for every fold of a dataset."""
