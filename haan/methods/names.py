"""Every method by its name. Light: PyTorch comes with a method itself, where one is wanted."""

from collections.abc import Mapping
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from haan.config import Config
from haan.methods.actionformer.config import ActionformerConfig
from haan.methods.asl.config import AslConfig
from haan.methods.bmn.config import BmnConfig
from haan.methods.case.config import CaseConfig
from haan.methods.d2net.config import D2NetConfig
from haan.methods.haan.config import HaanConfig
from haan.methods.refineloc.config import RefineConfig
from haan.methods.ssn.config import SsnConfig
from haan.methods.student.config import StudentConfig
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
    "d2net": D2NetConfig,
    "refineloc": RefineConfig,
    "actionformer": ActionformerConfig,
    "student": StudentConfig,
    "bmn": BmnConfig,
    "ssn": SsnConfig,
}


def method_of(config: Config) -> "type[Method]":
    """What trains a configuration."""
    return resolve_name(config.implementation)
