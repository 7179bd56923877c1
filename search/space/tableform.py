"""What a space says of the table it makes (`table:`): its form, its data set, and the figures published for it.

A line of a table is a row of the grid, or a value of its listed parameters; seeds are averaged. Its columns are mAP at
each of `eval.report` and avg.mAP, or with `across` the values of one listed parameter, each cell mAP at one tIoU.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import yaml

from haan.checked import AT_LEAST_ONE, NOT_EMPTY, Checked, required, setting
from haan.yamlconfig import BAD, build, items, place, shown, value_of

Figure = tuple[float, float | None]  # in percent, and its standard deviation where one was published


@dataclass(frozen=True, kw_only=True)
class Dataset(Checked):
    """The data set that a table is of, by the counts of its published annotations."""

    name: str = required(NOT_EMPTY)
    train_videos: int = required(AT_LEAST_ONE)
    validation_videos: int = required(AT_LEAST_ONE)
    train_segments: int = required(AT_LEAST_ONE)
    validation_segments: int = required(AT_LEAST_ONE)
    fine_classes: int = required(AT_LEAST_ONE)
    coarse_classes: int = required(AT_LEAST_ONE)


@dataclass(frozen=True, kw_only=True)
class Source(Checked):
    """Where figures were published, and what they are.

    tiou: the thresholds of their avg.mAP. columns: the tIoU of each figure, avg.mAP behind them; with `table.across`
    the value of that parameter for each, and no avg.mAP.
    """

    source: str = required(NOT_EMPTY)
    columns: tuple[float, ...] = ()
    tiou: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Published:
    """Figures of others, None where there is none. lines: for lines of ours. others: for what we have no line of."""

    source: Source
    lines: Mapping[str, tuple[Figure | None, ...]] = field(default_factory=dict)
    others: Mapping[str, tuple[Figure | None, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Form(Checked):
    """The plain values of `table:`. lines: what the lines are, as the head of their column."""

    title: str = required(NOT_EMPTY)
    lines: str = setting("Setting", NOT_EMPTY)
    across: str | None = None
    map_at: float | None = None
    dataset: Dataset | None = None


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of a paper, or one like it."""

    form: Form
    published: Published | None = None


def read_table(node: yaml.Node, errors: list[str]) -> Table | None:
    """The value of `table:`; None after an error, which is in the list then."""
    before = len(errors)
    found = items(node, "table", errors)
    if not isinstance(node, yaml.MappingNode):
        return None
    rest = [(key, value) for name, (key, value) in found.items() if name != "published"]
    form = build(Form, yaml.MappingNode(node.tag, rest, node.start_mark, node.end_mark), "table", errors)
    if form is not None and (form.across is None) != (form.map_at is None):
        rule = "must stand beside table.map_at, the tIoU of its cells" if form.across else "is for table.across alone"
        key = "across" if form.across else "map_at"
        errors.append(f"{place(found[key][1])}: table.{key}: {rule}, got {shown(found[key][1])}")
    published = None
    if "published" in found and form is not None:
        published = _published(found["published"][1], form, errors)
    return None if len(errors) > before or form is None else Table(form=form, published=published)


def _published(node: yaml.Node, form: Form, errors: list[str]) -> Published | None:
    key = "table.published"
    found = items(node, key, errors)
    if not isinstance(node, yaml.MappingNode):
        return None
    rest = [(k, v) for name, (k, v) in found.items() if name not in ("lines", "others")]
    source = build(Source, yaml.MappingNode(node.tag, rest, node.start_mark, node.end_mark), key, errors)
    if source is None:
        return None
    count = len(source.columns) + (form.across is None)
    lists = {}
    for name in ("lines", "others"):
        entries = items(found[name][1], f"{key}.{name}", errors) if name in found else {}
        lists[name] = {
            line: _figures(value, f"{key}.{name}.{line}", count, errors) for line, (_, value) in entries.items()
        }
    return Published(source=source, lines=lists["lines"], others=lists["others"])


def _figures(node: yaml.Node, key: str, count: int, errors: list[str]) -> tuple[Figure | None, ...]:
    if not isinstance(node, yaml.SequenceNode) or len(node.value) != count:
        got = f"{len(node.value)} values" if isinstance(node, yaml.SequenceNode) else shown(node)
        errors.append(f"{place(node)}: {key}: must be a list of {count} figures (one a column, or null), got {got}")
        return ()
    return tuple(_figure(value, key, errors) for value in node.value)


def _figure(node: yaml.Node, key: str, errors: list[str]) -> Figure | None:
    """A number, null, or [mean, standard deviation]."""
    if isinstance(node, yaml.SequenceNode):
        pair = [value_of(float, one, key, errors) for one in node.value]
        if len(pair) != 2:
            errors.append(f"{place(node)}: {key}: must be [mean, standard deviation], got {len(pair)} values")
        return None if BAD in pair or len(pair) != 2 else (pair[0], pair[1])
    value = value_of(float | None, node, key, errors)
    return None if value is BAD or value is None else (value, None)
