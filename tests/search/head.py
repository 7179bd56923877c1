"""The Ray that drivers of slow tests join, as they know it; the fixture is in tests/conftest.py."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Head:
    """A Ray on this machine. pid: of the process below which all of it runs."""

    address: str
    pid: int

    @property
    def env(self) -> dict[str, str]:
        """What a process needs to join it; a Ray that a process starts for itself asks for this user's token."""
        return {"RAY_ADDRESS": self.address, "RAY_AUTH_MODE": "token"}
