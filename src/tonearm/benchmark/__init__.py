"""Many systems, each trained anew for every fold of a dataset, held against each other."""
