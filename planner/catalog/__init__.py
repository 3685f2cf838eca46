"""The catalogue: accelerators, models, prices, networks and electricity, each figure with its source."""

from planner.catalog.accelerators import Accelerator, accelerators, customise, find_accelerator, identify
from planner.catalog.grid import DEFAULT_PUE, DEFAULT_PUE_SOURCE, Grid, find_grid, grids
from planner.catalog.models import ModelEntry, fetch_config, find_model, load_config, models
from planner.catalog.networks import Network, default_network
from planner.catalog.offers import Price
from planner.catalog.prices import price_for, prices, providers_of, snapshot_date

__all__ = [
    "DEFAULT_PUE",
    "DEFAULT_PUE_SOURCE",
    "Accelerator",
    "Grid",
    "ModelEntry",
    "Network",
    "Price",
    "accelerators",
    "customise",
    "default_network",
    "fetch_config",
    "find_accelerator",
    "find_grid",
    "find_model",
    "grids",
    "identify",
    "load_config",
    "models",
    "price_for",
    "prices",
    "providers_of",
    "snapshot_date",
]
