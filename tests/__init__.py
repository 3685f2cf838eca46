"""The tests, as a package of its own: some libraries install a package called `tests` beside it."""
