"""Published training runs, what the engine says about each, and how far off it is.

rows (typed table) → mapping (row to run file) → predict → score → validate, report; folds and intervals make the 90 % intervals; nearest finds
published runs like a given one; accuracy reads the shipped record.
"""
