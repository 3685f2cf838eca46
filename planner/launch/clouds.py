"""What SkyPilot and dstack files have in common: the cloud's name of an accelerator, and the start on every machine."""

from __future__ import annotations

from typing import Final

from planner.launch.base import Plan, impossible

GPUS: Final[dict[str, tuple[str, str, str]]] = {
    "A100 SXM4 80GB": ("A100-80GB", "A100", "80GB"), "A100 PCIe 80GB": ("A100-80GB", "A100", "80GB"), "A100 SXM4 40GB": ("A100", "A100", "40GB"),
    "A100 PCIe 40GB": ("A100", "A100", "40GB"), "H100 SXM 80GB": ("H100", "H100", "80GB"), "H100 PCIe 80GB": ("H100", "H100", "80GB"),
    "H200 SXM 141GB": ("H200", "H200", "141GB"), "B200 SXM": ("B200", "B200", "180GB"), "L40S": ("L40S", "L40S", "48GB"), "L40": ("L40", "L40", "48GB"),
    "L4": ("L4", "L4", "24GB"), "A10G": ("A10G", "A10G", "24GB"), "A10": ("A10", "A10", "24GB"), "A40": ("A40", "A40", "48GB"), "T4": ("T4", "T4", "16GB"),
    "V100 SXM2 16GB": ("V100", "V100", "16GB"), "V100 SXM2 32GB": ("V100-32GB", "V100", "32GB"), "RTX 4090": ("RTX4090", "RTX4090", "24GB"),
    "RTX 3090": ("RTX3090", "RTX3090", "24GB"), "RTX A6000": ("RTXA6000", "A6000", "48GB"), "RTX 5090": ("RTX5090", "RTX5090", "32GB"),
    "MI300X": ("MI300X", "MI300X", "192GB"),
}  # fmt: skip
"""(SkyPilot's name, dstack's name, dstack's memory) by the catalogue's name."""
PACKAGES: Final = "pip install torch transformers accelerate peft"


def gpu_of(plan: Plan, form: str) -> tuple[str, str, str]:
    """The accelerator's names. Raises `PlanError` for a mixed fleet and for what these clouds have no name for."""
    gpu = plan.run.hardware.gpu
    name = gpu.get("base") if isinstance(gpu, dict) else gpu
    known = GPUS.get(str(name).removesuffix(" (edited)"))
    if known is None or plan.run.hardware.groups:
        raise impossible("hardware.gpu", name, form, f"Its names are known here for {', '.join(GPUS)}.")
    return known


def packages(plan: Plan) -> str:
    """What the script needs besides."""
    precision = plan.run.precision
    quantized = precision is not None and precision.weights in ("int8", "nf4", "nf4-dq")
    return PACKAGES + (" bitsandbytes" if quantized or "8bit" in plan.run.optimizer or plan.run.optimizer.startswith("paged") else "")
