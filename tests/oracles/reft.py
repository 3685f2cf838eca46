"""LoReFT of the product, on modules without values."""

from planner.probe.reft import apply

__all__ = ["apply"]
