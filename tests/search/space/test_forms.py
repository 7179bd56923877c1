"""How each key of a configuration may be searched."""

import pytest

from search.space.parameters import forms_of


@pytest.mark.parametrize(
    ("key", "forms", "under_grid"),
    [
        ("concepts.clusters", ("int", "choice"), ("list",)),
        ("optim.lr", ("float", "choice"), ("list",)),
        ("concepts.warm_start", ("choice",), ("list",)),
        ("model.classifier_layers", ("choice",), ("list",)),
        ("detect.alpha", ("sweep",), ("sweep",)),
        ("seed", (), ("list",)),
        ("optim.kind", ("choice",), ("list",)),
        ("optim.weight_decay", ("float", "choice"), ("list",)),
        ("optim.clip_norm", ("float", "choice"), ("list",)),
        ("optim.schedule", ("choice",), ("list",)),
        ("optim.warmup_epochs", ("int", "choice"), ("list",)),
        ("optim.batch_videos", ("int", "choice"), ("list",)),
        ("optim.epochs", ("int", "choice"), ("list",)),
        ("concepts.refresh_epochs", ("int", "choice"), ("list",)),
        ("precision", ("choice",), ("list",)),
        ("precision.x", (), ()),
        ("device", (), ()),
        ("data.root", (), ()),
        ("data.validation.seed", (), ()),
        ("loss", (), ()),
        ("loss.psuedo", (), ()),
        ("detect.alpha.x", (), ()),
    ],
)
def test_a_key_is_searched_by_its_type_and_section(
    key: str, forms: tuple[str, ...], under_grid: tuple[str, ...]
) -> None:
    assert (forms_of(key), forms_of(key, grid=True)) == (forms, under_grid)
