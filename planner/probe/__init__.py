"""Real training steps of a planned run, measured: transformers and peft modules, random weights, synthetic tokens.

Needs torch, transformers and peft; importing this package imports none of them.
"""
