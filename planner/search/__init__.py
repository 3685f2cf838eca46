"""Many runs at once: the best under constraints, comparisons, questions asked backwards."""

from planner.search.constraints import Constraints
from planner.search.search import Found, search
from planner.search.space import Space

__all__ = ["Constraints", "Found", "Space", "search"]
