"""Prices asked for again: what is believed, what is kept, and what becomes of a network that fails."""

from __future__ import annotations

import datetime as dt
import functools
import http.server
import json
import os
import sys
import threading
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from planner import Run, estimate
from planner.catalog import price_for, prices, providers_of, snapshot_date
from planner.catalog import refresh as refreshing
from planner.catalog.offers import snapshot
from planner.catalog.refresh import refresh
from planner.catalog.refreshed import price_file, read_refreshed
from planner.cli import main
from planner.errors import PlanError

TODAY = dt.date(2026, 11, 20)
GOOD: dict[str, Any] = {
    "provider": "aws", "instance_name": "p5.48xlarge", "location": "us-east-1", "price": 40.0, "gpu_count": 8, "gpu_name": "H100",
    "gpu_memory": 80.0, "spot": False, "vendor": "nvidia",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANNER_DATA", str(tmp_path / "data"))


def answering(*items: dict[str, Any]) -> Any:
    """An `ask` that answers so."""

    def ask(providers: Sequence[str], timeout_s: float) -> str:
        return json.dumps({"items": [GOOD | item for item in items]})

    return ask


def test_a_provider_that_answers_stands_with_its_newer_offers_alone() -> None:
    others = {offer for offer in prices() if offer.provider != "aws"}
    done = refresh(ask=answering({}), today=TODAY)
    assert (done.offers, done.left_out, done.kept) == ({"aws": 1}, {}, ())
    assert {offer for offer in prices() if offer.provider != "aws"} == others
    offer = price_for("H100 SXM 80GB", "AWS")
    assert offer is not None and (offer.usd_per_gpu_hour, offer.date, offer.region) == (5.0, TODAY, "us-east-1")
    assert snapshot_date() == TODAY and "aws" not in providers_of("T4")
    priced = estimate(Run.model_validate({"model": "gpt2", "hardware": {"gpu": "H100 SXM 80GB"}, "price": {"provider": "aws"}, "data": {"tokens": 1e9}}))
    assert priced.details["price"]["date"] == TODAY.isoformat() and priced.details["price"]["usd_per_gpu_hour"] == 5.0


def test_a_provider_that_does_not_answer_keeps_its_last_good_offers() -> None:
    refresh(ask=answering({}, {"provider": "lambdalabs", "instance_name": "gpu_8x_h100_sxm5"}), today=dt.date(2026, 11, 1))
    done = refresh(ask=answering({"price": 32.0}), today=TODAY)
    assert (done.offers, done.kept) == ({"aws": 1}, ("lambda",))
    assert read_refreshed().asked == {"lambda": dt.date(2026, 11, 1), "aws": TODAY}
    assert {(o.provider, o.usd_per_gpu_hour) for o in read_refreshed().offers} == {("aws", 4.0), ("lambda", 5.0)}


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"price": 0}, "without a price"),
        ({"price": float("nan")}, "without a price"),
        ({"price": "4"}, "without a price"),
        ({"price": True}, "without a price"),
        ({"price": 4000.0}, "more than 10 times off the usual price"),
        ({"price": 0.4}, "more than 10 times off the usual price"),
        ({"gpu_count": 0}, "without a whole number of accelerators"),
        ({"gpu_count": 0.5}, "without a whole number of accelerators"),
        ({"provider": None}, "without a whole number of accelerators"),
        ({"instance_name": "new", "gpu_memory": 10.0}, "of accelerators that the catalogue does not tell apart"),
        ({"instance_name": "new", "gpu_memory": [80]}, "of accelerators that the catalogue does not tell apart"),
        ({"instance_name": "new", "gpu_memory": True}, "of accelerators that the catalogue does not tell apart"),
        ({"instance_name": "new", "gpu_name": "H999"}, "of accelerators that the catalogue does not tell apart"),
        ({"instance_name": "new", "gpu_name": "RTXPRO6000", "gpu_memory": 96.0}, "of accelerators that the catalogue does not tell apart"),
        ({"gpu_name": "v5p", "vendor": "google"}, "TPU slices, whose chips are not told"),
        ({"spot": True, "price": 40.0}, "spot at or above the on-demand price"),
    ],
)
def test_absurd_rows_are_left_out_and_counted(item: dict[str, Any], reason: str) -> None:
    done = refresh(ask=answering({}, item), today=TODAY)
    assert done.left_out == {reason: 1} and done.offers == {"aws": 1}


@pytest.mark.parametrize(
    ("listed", "memory", "name"),
    [
        ("H200", 141, "H200 SXM 141GB"), ("H100NVL", 94, "H100 NVL 94GB"), ("A100", 40, "A100 40GB"), ("B200", 192, "B200 SXM"),
        ("RTX6000", 24, "Quadro RTX 6000"), ("RTX4090", 24, "RTX 4090"), ("A6000", 48, "RTX A6000"), ("MI300X", 192, "MI300X"), ("V100", 32, "V100 32GB"),
    ],
)  # fmt: skip
def test_names_of_lists_are_found_in_the_catalogue(listed: str, memory: float, name: str) -> None:
    refresh(ask=answering({"provider": "nobody", "gpu_name": listed, "gpu_memory": memory, "price": 16.0}), today=TODAY)
    assert [o.accelerator for o in read_refreshed().offers] == [name]


def test_a_known_instance_tells_the_form_that_a_list_leaves_out() -> None:
    known = next(o for o in snapshot() if o.accelerator == "H100 SXM 80GB" and o.provider == "aws")
    refresh(ask=answering({"instance_name": known.instance}), today=TODAY)
    assert [o.accelerator for o in read_refreshed().offers] == ["H100 SXM 80GB"]


def test_the_median_of_the_regions_stands_for_an_instance() -> None:
    refresh(ask=answering(*({"price": p, "location": f"r{p}"} for p in (48.0, 40.0, 44.0))), today=TODAY)
    assert [(o.usd_per_gpu_hour, o.region) for o in read_refreshed().offers] == [(5.5, "r44.0")]


@pytest.mark.parametrize("answer", ["", "[]", "{}", '{"items": 3}', "<html>busy</html>"])
def test_an_answer_that_is_none_changes_nothing(answer: str) -> None:
    refresh(ask=answering({}), today=TODAY)
    before = price_file().read_bytes()
    with pytest.raises(PlanError, match="answered something else than offers"):
        refresh(ask=lambda providers, timeout: answer)
    with pytest.raises(PlanError, match=r"without one offer that can be used \(1 without a price\)"):
        refresh(ask=answering({"price": -1}))
    assert price_file().read_bytes() == before


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 9, "asked": {}, "offers": []}', '{"asked": {}, "offers": [{"accelerator": "T4"}]}'])
def test_a_broken_price_file_is_said_and_the_snapshot_stands_in(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    price_file().parent.mkdir(parents=True)
    price_file().write_text(text)
    assert prices() == snapshot()
    offer = price_for("H100 SXM 80GB")
    assert offer is not None and "refreshed prices were left out" in offer.source and str(price_file()) in offer.source
    assert main(["prices"]) == 0
    assert "Refreshed prices are left out" in capsys.readouterr().out


@pytest.fixture
def lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A server of gpuhunt's lists on this machine; a provider without a folder answers 404."""
    gpuhunt = pytest.importorskip("gpuhunt")
    folder = tmp_path / "lists"
    from gpuhunt._internal.storage import dump

    for provider, memory, price in (("aws", 80.0, 40.0), ("lambdalabs", 80.0, 24.0)):
        place = folder / provider / "20261120"
        place.mkdir(parents=True)
        (folder / provider / "version").write_text("20261120")
        item = gpuhunt.CatalogItem(
            provider=provider, instance_name="new8", location="here", price=price, cpu=8, memory=64.0, gpu_count=8, gpu_name="H100",
            gpu_memory=memory, spot=False, disk_size=None, gpu_vendor=gpuhunt.AcceleratorVendor.NVIDIA,
        )  # fmt: skip
        dump([item], str(place / "rows.csv"))
        with zipfile.ZipFile(place / "catalog.zip", "w") as archive:
            archive.write(place / "rows.csv", f"{provider}.csv")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            """Requests are not printed among the tests."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("GPUHUNT_CATALOG_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(refreshing.__file__).parents[2]), *filter(None, sys.path)]))
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


def test_gpuhunt_itself_is_asked(lists: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prices", "H100 SXM 80GB", "--refresh", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["asked"]["offers"] == {"aws": 1, "lambda": 1} and told["asked"]["left_out"] == {}
    assert {o["provider"]: o["usd_per_gpu_hour"] for o in told["offers"] if o["source"].startswith("gpuhunt")} == {"aws": 5.0, "lambda": 3.0}


@pytest.mark.usefixtures("lists")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--provider", "nowhere"], "Unknown provider: nowhere"),
        (["--timeout", "0.01"], "did not answer within 0.01 s"),
        (["--timeout", "-1"], "--timeout"),
    ],
)
def test_what_gpuhunt_cannot_answer_is_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prices", "--refresh", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not price_file().exists()


def test_lists_that_are_all_gone_are_one_line(lists: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUHUNT_CATALOG_URL", "http://127.0.0.1:9")
    assert main(["prices", "--refresh"]) == 2
    assert "Failed to load catalogs of all providers" in capsys.readouterr().err


def test_without_gpuhunt_the_sentence_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refreshing.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PlanError, match="pip install gpuhunt"):
        refresh()
