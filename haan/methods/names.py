"""Every method by its name. Light: PyTorch comes with a method itself, where one is wanted."""

from collections.abc import Mapping
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from haan.config import Config
from haan.methods.asl.config import AslConfig
from haan.methods.bmn.config import BmnConfig
from haan.methods.case.config import CaseConfig
from haan.methods.haan.config import HaanConfig
from haan.methods.wtalc.config import WtalcConfig
from haan.methods.wtalum.config import UmConfig

if TYPE_CHECKING:
    from haan.methods.base import Method

HAAN = "haan"  # what is meant where no method is named
CONFIGS: Mapping[str, type[Config]] = {
    HAAN: HaanConfig,
    "wtalc": WtalcConfig,
    "asl": AslConfig,
    "case": CaseConfig,
    "wtalum": UmConfig,
    "bmn": BmnConfig,
}


def method_of(config: Config) -> "type[Method]":
    """What trains a configuration."""
    return resolve_name(config.implementation)
