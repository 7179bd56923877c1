"""Why a trial broke, in a line, from what Ray wrote of it."""

from typing import Any

import pytest

from search.trials import failures

# The first words of two pages, as Ray 2.60 wrote them.
MEMORY = """\
2 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 192.0.2.2, ID: 659c22) was \
22.96GB used / 23.54GB limit (0.975407)
OOM kill reason: Memory usage 24093011968B exceeded threshold of 24012685312B (95.0% of 25276510208B limit)
Refer to the documentation on how to address the out of memory issue: https://docs.ray.io/en/latest/ray-observability
"""
SAID = "out of memory: Ray ended its process, for 22.96GB of 23.54GB were in use on 192.0.2.2"
NAN = "Traceback (most recent call last):\n  line 1\nValueError: 3 is not even"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "unknown; see log/search.log"),
        (NAN, "ValueError: 3 is not even"),
        (MEMORY, SAID),
        (f"Failure # 1 (occurred at x)\n{NAN}\nFailure # 2 (occurred at y)\n{MEMORY}", SAID),
        (f"Failure # 1 (occurred at x)\n{MEMORY}\nFailure # 2 (occurred at y)\n{NAN}", "ValueError: 3 is not even"),
        (
            "ray.exceptions.ActorDiedError: The actor died unexpectedly. Some common causes include: (1) OOM",
            "its process died: ray.exceptions.ActorDiedError: The actor died unexpectedly.",
        ),
    ],
)
def test_the_last_failure_is_said_in_a_line(text: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures.internals, "error_text", lambda trial: text)
    trial: Any = object()
    assert failures.reason(trial) == line
