"""How fast a device really is: efficiency curves by operation and size, from published kernels or from your own calibration."""

from planner.device.default import default_profile, part_of
from planner.device.profile import DeviceProfile, load_profile

__all__ = ["DeviceProfile", "default_profile", "load_profile", "part_of"]
