"""Random input for everything that comes from outside: none of it may crash, none may be answered with NaN.

    python -m tests.fuzz --cases 100000            # all targets; a few minutes
    python -m tests.fuzz --target runs --seed 1234 --cases 1    # one case again
"""
