"""What ends a stage."""

import pytest

from search.trials.tuning import was_interrupted


def test_an_interrupt_in_the_midst_of_a_locks_release_is_one() -> None:
    with pytest.raises(RuntimeError) as caught:
        try:
            try:
                raise KeyboardInterrupt
            except BaseException:
                raise FileNotFoundError("the lock") from None  # as Optuna's release does, but that it keeps the context
        except FileNotFoundError as error:
            raise RuntimeError("a callback of Ray Tune's failed") from error
    assert was_interrupted(caught.value) and not was_interrupted(RuntimeError("x")) and not was_interrupted(None)
