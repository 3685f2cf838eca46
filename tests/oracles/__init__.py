"""Independent truths for the engine's tests: real transformers models run on fake tensors.

Nothing here imports `planner`. Every number comes from PyTorch, transformers and peft themselves, executed without data
(``FakeTensorMode``), so a disagreement is the engine's to explain.
"""
