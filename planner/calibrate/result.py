"""What a calibration leaves behind: the fitted profile, the conditions it was measured under, and every raw sample beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from planner.device.conditions import Conditions
from planner.device.profile import DeviceProfile
from planner.errors import PlanError

SAMPLES_VERSION: Final = 1
MAX_BYTES: Final = 64 * 2**20


class Sample(BaseModel):
    """One timed case. seconds: median · iqr: interquartile range · raw: every repetition, warm-up left out, all in [s]."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    benchmark: str
    case: dict[str, float | str]
    seconds: float = Field(gt=0)
    iqr: float = Field(ge=0)
    raw: tuple[float, ...] = Field(min_length=1)
    throttled: int = Field(default=0, ge=0, description="repetitions that were thrown away because the clock was held down")
    disturbed: int = Field(default=0, ge=0, description="repetitions that were thrown away because another program ran meanwhile")


class Calibration(BaseModel):
    """Profile, conditions and samples of one measurement."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = SAMPLES_VERSION
    profile: DeviceProfile
    conditions: Conditions
    samples: tuple[Sample, ...]

    def save(self, path: str | Path) -> tuple[Path, Path]:
        """Write the profile at `path` and the raw samples beside it (`name.samples.json`); returns both paths."""
        target = Path(path)
        beside = target.with_name(f"{target.stem}.samples.json")
        try:
            self.profile.dump(target)
            document = self.model_dump(mode="json", exclude={"profile"})
            beside.write_text(json.dumps(document) + "\n", encoding="utf-8")
        except OSError as error:
            raise PlanError(
                "out", str(path), f"cannot be written: {error.strerror or error}", "Name a file in a folder that exists."
            ) from None
        return target, beside


def load_samples(path: str | Path) -> tuple[Conditions, tuple[Sample, ...]]:
    """Read what `Calibration.save` wrote beside a profile. Raises `PlanError`."""
    try:
        if Path(path).stat().st_size > MAX_BYTES:
            raise PlanError("samples", str(path), "is larger than 64 MiB", "Name a file that `calibrate` wrote.")
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        return Conditions.model_validate(data["conditions"]), tuple(map(Sample.model_validate, data["samples"]))
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        problem = f"holds no samples ({type(error).__name__})"
    raise PlanError("samples", str(path), problem, "Name the .samples.json file that `calibrate` wrote.")
