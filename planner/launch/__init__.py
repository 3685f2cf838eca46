"""Launch files: a plan as the files that start it. Importing this package registers the formats that ship with Plumbline."""

from planner.launch import cluster, dstack, factories, pretraining, skypilot, torchtune, trainer, trl
from planner.launch.base import FORMATS, File, Format, Launch, find_format, launch, register

__all__ = [
    "FORMATS",
    "File",
    "Format",
    "Launch",
    "cluster",
    "dstack",
    "factories",
    "find_format",
    "launch",
    "pretraining",
    "register",
    "skypilot",
    "torchtune",
    "trainer",
    "trl",
]
