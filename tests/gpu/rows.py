"""What a part finds: one line of the table."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Row:
    """goal, limit: of the value, where there are some; `most`: it must not exceed the goal, else not stay below it."""

    part: str
    work: str
    value: float
    unit: str
    goal: float | None = None
    most: bool = True
    limit: float | None = None
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the goal is met; None without one."""
        if self.goal is None:
            return None
        return self.value <= self.goal if self.most else self.value >= self.goal

    def record(self) -> dict[str, Any]:
        """Everything, for a JSON file."""
        return asdict(self) | {"holds": self.holds}
