"""Brings the catalogues up to date with the texts of the app: new texts enter without a translation, texts that are gone leave.

    python -m tests.messages            say what is missing
    python -m tests.messages --write    write the catalogues
    python -m tests.messages --take F   take translations from a JSON file, {English: translation}, and write
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from planner.ui import po
from tests.messages.extract import ROOT, texts

CATALOGUES = {"zh_CN": ROOT / "planner/ui/locale/zh_CN/LC_MESSAGES/planner.po"}


def main() -> int:
    """Compare, and write where asked. Returns 1 where a translation is missing."""
    parser = argparse.ArgumentParser(prog="python -m tests.messages", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the catalogues")
    parser.add_argument("--take", type=Path, help="JSON file of translations")
    options = parser.parse_args()
    found, missing = texts(), 0
    taken = json.loads(options.take.read_text(encoding="utf-8")) if options.take else {}
    for language, path in CATALOGUES.items():
        known = {one.source: one.text for one in po.read(path.read_text(encoding="utf-8"))} if path.exists() else {}
        known |= {source: text for source, text in taken.items() if source in found}
        entries = [po.Message(source, known.get(source, ""), places) for source, places in found.items()]
        empty = [one for one in entries if not one.text]
        missing += len(empty)
        print(f"{language}: {len(entries)} texts, {len(empty)} without a translation, {len(set(known) - set(found))} no longer used")
        for one in empty[:20]:
            print(f"  {one.source!r} ({', '.join(one.places)})")
        if options.write or options.take:
            path.write_text(po.write(entries, language), encoding="utf-8")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
