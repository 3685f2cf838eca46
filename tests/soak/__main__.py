"""Sessions at once on one server: python -m tests.soak --sessions 20 --minutes 10

Each session speaks the protocol of the browser (a websocket, protobuf messages): it opens a page with a plan in its address, waits until the script
has run, thinks a moment, and goes on to another page and plan. Counted are answers, their times, exceptions shown, and the memory of the server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from planner.ui import frame
from tests.browser.conftest import ROOT, Server

PAGES = tuple("" if name == "plan" else name for name in frame.PAGES)
MODELS = ("meta-llama/Llama-3.1-8B", "Qwen/Qwen2.5-7B", "openai-community/gpt2", "google-bert/bert-base-uncased", "meta-llama/Llama-3.1-70B")
GPUS = ("H100 SXM 80GB", "A100 SXM4 80GB", "RTX 4090", "V100 SXM2 32GB")
METHODS = ("lora", "qlora", "full", "bitfit")


@dataclass
class Record:
    """What the sessions met. seconds: of each answer · faults: what was shown as an error of the app · memory: (second, bytes) of the server."""

    seconds: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)


def resident(process: int) -> int:
    """Resident memory of a process [bytes]."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


async def session(port: int, until: float, think: float, seed: int, record: Record) -> None:
    """One person: pages and plans until the time is over."""
    from streamlit.proto.BackMsg_pb2 import BackMsg
    from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
    from websockets.asyncio.client import connect
    from websockets.typing import Subprotocol

    chance = random.Random(seed)
    await asyncio.sleep(chance.random() * think)
    async with connect(f"ws://127.0.0.1:{port}/_stcore/stream", subprotocols=[Subprotocol("streamlit")], max_size=None) as line:
        while time.monotonic() < until:
            ask = BackMsg()
            ask.rerun_script.page_name = chance.choice(PAGES)
            plan = {"model": chance.choice(MODELS), "gpu": chance.choice(GPUS), "method": chance.choice(METHODS), "gpus": chance.choice(("1", "8"))}
            ask.rerun_script.query_string = urlencode(plan | ({"lang": "zh"} if seed % 2 else {}))
            began = time.monotonic()
            await line.send(ask.SerializeToString())
            while True:
                answer = await asyncio.wait_for(line.recv(), 120)
                said = ForwardMsg()
                said.ParseFromString(answer if isinstance(answer, bytes) else answer.encode())
                kind = said.WhichOneof("type")
                if kind == "delta" and said.delta.new_element.WhichOneof("type") == "exception":
                    shown = said.delta.new_element.exception
                    record.faults.append(f"{ask.rerun_script.page_name} {plan}: {shown.type} {shown.message[:80]} {list(shown.stack_trace)[-2:]}")
                if kind == "delta" and "fault of Plumbline" in str(said.delta.new_element.alert):
                    record.faults.append(f"{ask.rerun_script.page_name} {plan}")
                if kind == "script_finished" and said.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY:
                    break
            record.seconds.append(time.monotonic() - began)
            await asyncio.sleep(think * (0.5 + chance.random()))


async def watch(process: int, until: float, record: Record) -> None:
    """The server's memory, every few seconds."""
    began = time.monotonic()
    while time.monotonic() < until:
        record.memory.append((time.monotonic() - began, resident(process)))
        await asyncio.sleep(5)


async def everybody(port: int, process: int, options: argparse.Namespace, record: Record) -> None:
    """All sessions and the watch."""
    until = time.monotonic() + 60 * options.minutes
    people = [session(port, until, options.think, seed, record) for seed in range(options.sessions)]
    found = await asyncio.gather(watch(process, until, record), *people, return_exceptions=True)
    record.faults += [f"{type(one).__name__}: {one}" for one in found if isinstance(one, BaseException)]


def summary(record: Record, options: argparse.Namespace) -> dict[str, object]:
    """The record in figures: memory is compared between the second quarter, when caches are warm, and the last."""
    sizes = [size for _, size in record.memory]
    quarter = max(1, len(sizes) // 4)
    early, late = statistics.median(sizes[quarter : 2 * quarter] or sizes), statistics.median(sizes[-quarter:])
    times = sorted(record.seconds)
    if not times:
        return {"answers": 0, "faults": len(record.faults), "first_faults": record.faults[:5]}
    return {
        "sessions": options.sessions, "minutes": options.minutes, "answers": len(times), "faults": len(record.faults), "first_faults": record.faults[:5],
        "median_s": round(statistics.median(times), 3), "p90_s": round(times[int(0.9 * (len(times) - 1))], 3), "longest_s": round(times[-1], 3),
        "memory_mib": {"start": sizes[0] >> 20, "second_quarter": int(early) >> 20, "last_quarter": int(late) >> 20, "most": max(sizes) >> 20},
    }  # fmt: skip


def main() -> int:
    """Start a server, let the sessions at it, print the record as JSON. Returns 1 where anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--think", type=float, default=4.0, help="seconds between an answer and the next question, in the mean")
    parser.add_argument("--log", type=Path, help="keep what the server said in this file")
    options = parser.parse_args()
    record = Record()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "log", PLANNER_DATA=folder, PYTHONPATH=str(ROOT))
        try:
            server.wait()
            asyncio.run(everybody(server.port, server.process.pid, options, record))
        finally:
            server.stop()
        text = server.log.read_text()
        if options.log:
            options.log.write_text(text)
        lines = text.splitlines()
        told = Counter(line.strip() for line in lines if re.match(r"\s*(\w+\.)*\w*(Error|Exception)\b|\s+File .*(planner|pages)/", line))
    print(json.dumps(summary(record, options) | {"log": told.most_common(12)}, indent=2))
    return 1 if record.faults else 0


if __name__ == "__main__":
    sys.exit(main())
