"""What a process takes of memory that it shares."""

import pytest
import torch

from haan.memory import cap_gpu


@pytest.mark.parametrize(
    ("part", "gpu", "capped"),
    [
        (0.25, True, [0.25]),
        (1.0, True, []),  # has one GPU, or several, for itself
        (0.0, True, []),  # trains on the CPU, where another trial has the GPU
        (0.25, False, []),
    ],
)
def test_a_share_of_a_gpu_is_a_share_of_its_memory(
    monkeypatch: pytest.MonkeyPatch, part: float, gpu: bool, capped: list[float]
) -> None:
    found: list[float] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", found.append)
    cap_gpu(part)
    assert found == capped
