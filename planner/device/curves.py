"""The curve families of a device profile, in one place for those who fit or edit them."""

from planner.device.attention import Attention, AttentionCurve
from planner.device.gemm import Gemm, GemmCurve, Tile
from planner.device.stream import Stream, StreamCurve

__all__ = ["Attention", "AttentionCurve", "Gemm", "GemmCurve", "Stream", "StreamCurve", "Tile"]
