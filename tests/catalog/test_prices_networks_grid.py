"""Prices, default links and electricity: sane values, documented rules, nothing invented."""

from __future__ import annotations

import datetime as dt

import pytest

from planner.catalog import (
    DEFAULT_PUE,
    accelerators,
    customise,
    default_network,
    find_accelerator,
    find_grid,
    grids,
    price_for,
    prices,
    providers_of,
    snapshot_date,
)
from planner.device import collectives
from planner.errors import PlanError


def test_every_price_is_sane_dated_and_licensed() -> None:
    known = {name for row in accelerators() for name in (row.name, *row.family_names)}
    assert len(prices()) > 200
    for offer in prices():
        assert offer.accelerator in known
        assert 0.05 < offer.usd_per_gpu_hour < 20, offer
        assert dt.date(2024, 1, 1) <= offer.date <= snapshot_date()
        assert any(licence in offer.source for licence in ("MIT", "CC BY 4.0", "MPL-2.0"))
        assert "skypilot" not in offer.source
    assert snapshot_date() == dt.date(2026, 9, 6)


def test_spot_is_below_on_demand_of_the_same_offer() -> None:
    on_demand = {(o.accelerator, o.provider, o.instance, o.gpus, o.date): o for o in prices() if not o.spot}
    pairs = [(o, on_demand.get((o.accelerator, o.provider, o.instance, o.gpus, o.date))) for o in prices() if o.spot]
    assert pairs
    assert all(base is None or spot.usd_per_gpu_hour < base.usd_per_gpu_hour for spot, base in pairs)


def test_default_price_follows_the_rule() -> None:
    offer = price_for("H100 SXM 80GB")
    assert offer is not None
    assert offer.tier == "current"
    assert not offer.spot
    # ten providers with a current price: four list prices of the SXM part, six medians over H100 of any form
    assert (offer.provider, offer.usd_per_gpu_hour) == ("runpod", 2.99)
    assert price_for("NVIDIA H100 80GB HBM3") == offer


def test_newer_offers_win_over_old_ones() -> None:
    offer = price_for("V100 SXM2 16GB")
    assert offer is not None
    assert (offer.provider, offer.date) == ("aws", dt.date(2026, 9, 6))
    old = price_for("RTX A6000")
    assert old is not None
    assert old.tier == "old"


def test_provider_and_spot() -> None:
    aws = price_for("H100 SXM 80GB", provider="AWS")
    assert aws is not None
    assert (aws.provider, aws.usd_per_gpu_hour) == ("aws", 6.88)
    assert "aws" in providers_of("H100 SXM 80GB")
    spot = price_for("T4", spot=True)
    assert spot is not None
    assert spot.spot
    assert price_for("T4", provider="nobody") is None


def test_no_price_is_none_and_no_part_is_an_error() -> None:
    assert price_for("Apple M1 Max") is None
    with pytest.raises(PlanError):
        price_for("H100")


def test_fractions_of_a_gpu_are_not_offers_of_one() -> None:
    assert not [o for o in prices() if o.instance == "NV6ads_A10_v5"]


def test_every_part_has_default_links_that_the_timing_model_takes() -> None:
    for row in accelerators():
        network = default_network(row)
        assert network.intra_kind in collectives.INTRA_KINDS
        assert (network.intra_bandwidth is None) == (network.intra_kind == "none"), row.name
        assert network.inter_kind is None or network.inter_kind in collectives.INTER_KINDS
        assert (network.inter_bandwidth is None) == (network.inter_kind is None)
        if network.intra_bandwidth is not None and network.pair_bandwidth is not None:
            assert network.pair_bandwidth <= network.intra_bandwidth
        assert network.assumed
        if network.inter_bandwidth is None:
            assert any("must state its network" in text for text in network.assumed)


@pytest.mark.parametrize(
    ("name", "kind", "intra", "domain"),
    [
        ("H100 SXM 80GB", "nvswitch", 450e9, 8),
        ("V100 SXM2 16GB", "nvlink", 150e9, 8),
        ("A100 PCIe 80GB", "pcie", 31.5e9, 8),
        ("RTX 4090", "pcie", 31.5e9, 4),
        ("GB200", "nvswitch", 900e9, 72),
        ("MI300X", "xgmi", 448e9, 8),
    ],
)
def test_default_links(name: str, kind: str, intra: float, domain: int) -> None:
    network = default_network(find_accelerator(name))
    assert (network.intra_kind, network.intra_bandwidth, network.link_domain) == (kind, intra, domain)


def test_pairs_in_a_mesh_and_links_to_the_host() -> None:
    assert default_network(find_accelerator("MI300X")).pair_bandwidth == 64e9
    assert default_network(find_accelerator("H100 SXM 80GB")).pair_bandwidth == 450e9
    assert default_network(find_accelerator("GH200 96GB")).host_bandwidth == 450e9
    assert default_network(find_accelerator("RTX 4060 Ti 16GB")).host_bandwidth == 15.75e9
    assert default_network(find_accelerator("H100 SXM 80GB")).inter_bandwidth == 400e9


def test_without_a_known_link_pci_express_is_taken_and_said() -> None:
    edited = customise(find_accelerator("H100 SXM 80GB"), intra_node_bandwidth=None)
    network = default_network(edited)
    assert (network.intra_kind, network.intra_bandwidth) == ("pcie", 63e9)
    assert any("PCI Express taken" in text for text in network.assumed)


def test_grids() -> None:
    codes = [grid.code for grid in grids()]
    assert len(set(codes)) == len(codes) > 200
    assert all(0.01 <= grid.kg_co2e_per_kwh <= 1.4 and grid.source and 2021 <= grid.year <= 2023 for grid in grids()), [
        grid for grid in grids() if not 0.01 <= grid.kg_co2e_per_kwh <= 1.4
    ]
    for code, value in (
        ("USA", 0.3695),
        ("FRA", 0.056),
        ("DEU", 0.381),
        ("CHN", 0.5823),
        ("SWE", 0.0407),
        ("IND", 0.7134),
    ):
        assert find_grid(code).kg_co2e_per_kwh == pytest.approx(value, abs=1e-4)
    assert find_grid("france").code == "FRA"
    assert find_grid().code == "WLD"
    with pytest.raises(PlanError, match="France"):
        find_grid("Frnce", "energy.country")
    assert 1.0 < DEFAULT_PUE < 2.0
