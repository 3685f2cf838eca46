"""Asks gpuhunt for the offers of cloud providers and prints them as JSON: run as a process of its own, which can be stopped.

gpuhunt reads the lists that its authors collect daily, one file a provider, over the network and without a time limit.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any, Final

FIELDS: Final = ("provider", "instance_name", "location", "price", "gpu_count", "gpu_name", "gpu_memory", "spot")


def collect(wanted: list[str]) -> dict[str, Any]:
    """Offers with accelerators, and the version of gpuhunt. wanted: providers by gpuhunt's names; all that need no account when empty."""
    import gpuhunt
    from gpuhunt.version import __version__

    catalog = gpuhunt.Catalog(balance_resources=False, auto_reload=False)
    catalog.load()
    found: list[dict[str, Any]] = []
    for item in catalog.query(min_gpu_count=1, **({"provider": wanted} if wanted else {})):
        found.append({field: getattr(item, field) for field in FIELDS} | {"vendor": item.gpu_vendor.value if item.gpu_vendor else ""})
    return {"gpuhunt": str(__version__), "items": found}


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        answer = collect(sys.argv[1:])
    json.dump(answer, sys.stdout)
