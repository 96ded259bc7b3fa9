# `make demo` and `make test` are all a newcomer needs; each sets up what it uses.
