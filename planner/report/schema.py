"""The published JSON Schema of the JSON report: `schemas/report-2.json`. Run as a module, this writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from planner.report.json_report import SCHEMA_VERSION, JsonComparison, JsonReport

SCHEMA: Final = Path(__file__).parent / "schemas" / f"report-{SCHEMA_VERSION}.json"


def schema() -> dict[str, Any]:
    """The JSON Schema of a report or a comparison."""
    made = TypeAdapter(JsonReport | JsonComparison).json_schema(mode="serialization", by_alias=False)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"Plumbline report, schema {SCHEMA_VERSION}", **made}


def schema_text() -> str:
    """The schema as it is committed."""
    return json.dumps(schema(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    SCHEMA.parent.mkdir(exist_ok=True)
    SCHEMA.write_text(schema_text(), encoding="utf-8")
