"""Every method by its name."""

from collections.abc import Mapping

from haan.methods.base import Method
from haan.methods.haan.method import HaanMethod

METHODS: Mapping[str, type[Method]] = {"haan": HaanMethod}
