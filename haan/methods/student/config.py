"""A student's own sections of a configuration: ActionFormer's, and what it makes of its teacher's detections."""

from dataclasses import dataclass
from typing import Literal

from haan.checked import AT_LEAST_ONE, PART_OR_ALL, SHARE, Checked, RuleError, section, setting
from haan.config import METHOD, OURS
from haan.methods.actionformer.config import ActionformerConfig


@dataclass(frozen=True, kw_only=True)
class Student(Checked):
    """Which of a teacher's detections are taken for segments.

    Scores are compared within a class, over all training videos, so that they may be of any scale.
    """

    teacher: str | None = setting(None, path=True, what="needed: what `haan detect --train` wrote", source=OURS)
    nms_tiou: float = setting(0.3, SHARE, what="suppressed by a better one from it on", source=OURS)
    most: int = setting(5, AT_LEAST_ONE, what="of a video and class, its best ones", source=OURS)
    sure: float = setting(0.3, PART_OR_ALL, what="best share of a class's that are segments", source=OURS)
    unsure: float = setting(0.8, PART_OR_ALL, what="the rest of this share is passed over", source=OURS)
    weighted: bool = setting(True, what="a segment counts less, the lower its rank is", source=OURS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.unsure < self.sure:
            raise RuleError("unsure", f"must be >= student.sure ({self.sure})", self.unsure)


@dataclass(frozen=True, kw_only=True)
class StudentConfig(ActionformerConfig):
    """A student's configuration, complete."""

    supervision = "weak"
    implementation = "haan.methods.student.method:StudentMethod"
    sizes = (*ActionformerConfig.sizes, "student.most")

    method: Literal["student"] = setting("student", what=METHOD, source=OURS)  # type: ignore[assignment]  # its own
    student: Student = section(Student)
