"""Teacher -> student: ActionFormer on what a weakly supervised method detected in its training videos.

The family of FuSTAL (2024) and PseudoFormer (CVPR 2025), in a form of our own. No true segment is among what it learns.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from haan.errors import InputError
from haan.feed import Feed
from haan.methods.actionformer.method import ActionformerMethod, Taught, packed
from haan.methods.base import Labelled, Network
from haan.methods.student.config import StudentConfig
from haan.methods.student.teacher import KEY, pseudo_segments, read_teacher

_DIGEST = "teacher"  # of what a checkpoint was taught


class StudentMethod(ActionformerMethod):
    """A student on some videos."""

    def __init__(self, config: StudentConfig, known: Labelled, feed: Feed, device: torch.device):
        super().__init__(config, known, feed, device)
        digest = hashlib.sha256(self._taught.cpu().numpy().tobytes()).digest()
        self._digest = torch.tensor(list(digest), dtype=torch.uint8)

    @classmethod
    def taught(cls, config: StudentConfig, known: Labelled) -> Taught:  # type: ignore[override]  # of its own class
        if config.student.teacher is None or not Path(config.student.teacher).is_file():
            got = "null" if config.student.teacher is None else f"{config.student.teacher!r}, which is none"
            raise InputError(f"{KEY}: must be a file that `haan detect --train` wrote, got {got}")
        path = Path(config.student.teacher)
        found = pseudo_segments(read_teacher(path, known), config.student)
        if not len(found):
            raise InputError(f"{KEY}: must have a detection of a class that its video shows, got none in {path}")
        return packed(found, found.score, known)

    @classmethod
    def outline(
        cls,
        config: StudentConfig,
        network: Network,
        num_clips: int,  # type: ignore[override]  # of its own class
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return {}, {_DIGEST: torch.empty(32, dtype=torch.uint8, device="meta")}

    def state(self) -> dict[str, Tensor]:
        """What it was taught, as a digest."""
        return {_DIGEST: self._digest}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Raises InputError where the teacher's detections have changed since."""
        if not torch.equal(tensors[_DIGEST].cpu(), self._digest):
            rule = "must hold the detections that the checkpoint was taught by"
            raise InputError(f"{KEY}: {rule}, got others in {self.config.student.teacher}")
