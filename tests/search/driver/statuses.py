"""What a search in its middle shows."""

from dataclasses import replace
from typing import Any

from search.driver.screen import Account, Row, Status


def row(number: int, **changes: Any) -> Row:
    params = {"optim.lr": 3e-5, "concepts.clusters": 50}
    known = Row(number=number, base=False, epoch=3, epochs=18, value=17.5, params=params, node="host-a", seconds=65)
    return replace(known, **changes)


def account(number: int, **changes: Any) -> Account:
    at = f"[{number:3d}/20   0:{number:02d}]"
    known = Account(
        facts=f"{at} trial {number:3d} COMPLETE avg.mAP {20 + number / 100:6.2f}",
        epochs="at epoch 14 of 18",
        best="best so far 24.03",
        settings=("clusters=164", "top_k=4", "pseudo=0.0179", "concept=0.0286", "coarse=0.206", "coarse_pooling=mean"),
    )
    return replace(known, **changes)


def status(**changes: Any) -> Status:
    known = Status(
        stage="search",
        name="demo",
        where="Running on a local Ray of its own: 1 node(s), 2 CPUs, 0 GPUs, 0.3 GiB shared memory",
        done=6,
        budget=20,
        complete=3,
        pruned=2,
        failed=1,
        running=(row(6), row(7, value=None)),
        best=(4, 24.03),
        base=21.68,
        history=(21.68, 21.68, 23.0, 24.03, 24.03),
        best_params={"concepts.clusters": 342, "loss.pseudo": 0.0131},
        spent_s=7200.0,
        saved_s=1800.0,
        search_s=7200.0,
        unit="GPU",
        elapsed_s=3723.0,
        left_s=125.0,
        failures=("trial 4: loss mil is nan in epoch 1",),
        last=tuple(account(i) for i in range(1, 7)),
    )
    return replace(known, **changes)
