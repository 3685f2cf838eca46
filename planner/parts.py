"""What the parts of a run file are made of: frozen, nothing unknown in them, no infinities."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, get_args

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

Positive = Annotated[float, Field(gt=0, le=1e18, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, le=1e18, allow_inf_nan=False)]


class Part(BaseModel):
    """A mapping in a run file."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)


def fields_of(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo, type[BaseModel] | None]]:
    """Every field of a run file, those of parts below their own: dotted path, the field, and the part that it is, if it is one."""
    for name, field in model.model_fields.items():
        part = next((k for k in (field.annotation, *get_args(field.annotation)) if isinstance(k, type) and issubclass(k, BaseModel)), None)
        yield prefix + name, field, part
        if part is not None:
            yield from fields_of(part, f"{prefix}{name}.")
