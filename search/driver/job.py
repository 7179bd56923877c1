"""What is to be searched: reads and checks all input, and takes the run folder, before anything starts."""

import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime

import yaml

from haan.cli import in_checkout, python
from haan.config import Holdout
from haan.data import cache
from haan.data.readers import open_data
from haan.data.table import Annotations, FeatureSource, Split, check_truth, has_truth, split
from haan.errors import InputError, MissingDataError
from haan.files import check_folder, whole
from haan.methods.base import told
from haan.methods.names import method_of
from search.driver.request import Request, named, taken
from search.results.folder import RunFolder
from search.results.retraining import OFFICIAL
from search.results.sources import read_sources
from search.space import confirmkeys
from search.space.model import Space, most_demanding
from search.space.read import naming_lines, read_kept
from search.space.resume import differences, growth
from search.study import algorithms, journal, record
from search.study.earlier import Source
from search.trials import features

Splits = dict[Holdout | str, Split]


@dataclass(frozen=True)
class Job:
    """A search whose input is sound.

    splits: by `data.validation`: that of the base, those of new seeds, and "official" where the data have such videos.
    session: which driver of this run it is, from 1. last_seen: when the driver before it last wrote, in Unix seconds.
    is_new: this driver made the run folder. remarks: what is to be said and warns of nothing. address: of the Ray
    cluster, where the user named one. script: the command line that goes on with it. sources: earlier searches that its
    study is to learn from, where it does not hold them yet.
    """

    space: Space
    folder: RunFolder
    source: FeatureSource
    annotations: Annotations
    splits: Splits
    fingerprint: str
    notes: tuple[str, ...]
    session: int
    last_seen: float | None
    is_new: bool
    remarks: tuple[str, ...] = ()
    address: str | None = None
    script: str = "search/run.py"
    sources: tuple[Source, ...] = ()

    @property
    def split(self) -> Split:
        """The one that trials are trained and scored on."""
        return self.splits[self.space.base.data.validation]

    @property
    def feature_bytes(self) -> int:
        """What the packed clips take."""
        return features.num_bytes(self.source, self.space.base.data.dtype)


def prepare(asked: Request, held: ExitStack) -> Job:
    """Checks all input, features included, before anything starts, and takes the run folder. Raises InputError."""
    space, folder, tree = _read(asked)
    with naming_lines(tree):
        opened, annotations, notes, splits = _open(space)
        data = space.base.data
        sources = read_sources(space, folder)
        source, kept = cache.keep(data, opened, annotations)
        mark = cache.fingerprint(source, annotations, data.dtype)
        try:
            session, last_seen, grown = _take(folder, space, mark, asked.resume, held)
        except OSError as error:
            raise InputError(f"{folder.root}: must be a folder that can be written, got: {error}") from None
    remarks = (*((kept,) if kept else ()), *grown, *_learned(space, sources))
    about = (space, folder, source, annotations, splits, mark, notes, session, last_seen, not asked.resume, remarks)
    return Job(*about, sources=sources)


def preview(asked: Request, scratch: RunFolder) -> Job:
    """Checks the same input and leaves the run folder as it is: `scratch` gets a copy of the studies of an old run.

    Features that are still to be planted are planted beside it. Raises InputError.
    """
    space, folder, tree = _read(asked)
    scratch.log.parent.mkdir(parents=True)
    base, session, grown = space.base, 1, ()
    if base.data.plant is not None and not os.path.lexists(base.data.root):
        base = replace(base, data=replace(base.data, root=str(scratch.root.with_name("data"))))
    with naming_lines(tree):
        sources = read_sources(space, folder)
        source, annotations, notes, splits = _open(replace(space, base=base))
        mark = cache.fingerprint(source, annotations, base.data.dtype)
        if folder.journal.exists():
            notes += _copied(folder, scratch)
            session, grown = _fits(scratch, space, mark)
    remarks = (*grown, *_learned(space, sources))
    about = (space, folder, source, annotations, splits, mark, notes, session, None, False, remarks)
    return Job(*about, sources=sources)


def _learned(space: Space, sources: Sequence[Source]) -> list[str]:
    return [source.remark(algorithms.learns(space.sampler)) for source in sources]


def _copied(folder: RunFolder, scratch: RunFolder) -> tuple[str, ...]:
    """Copies what `_fits` reads, whole again where a kill tore it; what was torn. Raises InputError."""
    files = ((folder.journal, scratch.journal), (folder.confirm_journal, scratch.confirm_journal))
    for old, new in ((folder.space_yaml, scratch.space_yaml), *files):
        if old.exists():
            shutil.copyfile(old, new)
    torn = []
    for old, new in files:
        try:
            if journal.repair(new):
                torn.append(f"{old}: its last line is incomplete, as a kill leaves it; --resume will mend it")
        except InputError as error:
            raise InputError(message.replace(str(new), str(old)) for message in error.messages) from None
    return tuple(torn)


def _read(asked: Request) -> tuple[Space, RunFolder, yaml.MappingNode]:
    """The space, its nodes, and a run folder that is free, or there to be gone on with. Raises InputError."""
    space, name, tree = named(asked)
    folder = RunFolder(asked.out / name)
    check_folder(folder.root)
    if folder.root.exists() and not asked.resume:
        raise taken(folder)
    if asked.resume and not folder.is_run:
        got = "another folder" if folder.root.exists() else "one that does not"
        raise InputError(f"{folder.root}: --resume must be of a run that exists, got {got}")
    return space, folder, tree


def _open(space: Space) -> tuple[cache.OnDisk, Annotations, tuple[str, ...], Splits]:
    """Opens the data and checks all but the clips. Raises InputError."""
    data = space.base.data
    try:
        source, annotations, notes = open_data(data)
    except MissingDataError as error:
        where = "the features are published by the paper's authors, https://github.com/lizhi1104/HAAN"
        demo = python(in_checkout("search/run.py"), in_checkout("spaces/demo.yaml"))
        raise InputError(f"{error}; {where}; without data, try: {demo}") from None
    splits: Splits = {data.validation: split(annotations, data)}
    if annotations.num_train < len(annotations.names):
        official = split(annotations, replace(data, validation=OFFICIAL))
        if OFFICIAL in splits or has_truth(annotations, official.validation):
            splits[OFFICIAL] = official
        else:
            notes += ("the official validation videos have no ground truth, so the winner is not scored on them",)
    chosen_on = [data.validation, *(block.validation for block in confirmkeys.blocks(space.base, space.plan.confirm))]
    splits |= {one: split(annotations, replace(data, validation=one)) for one in chosen_on if one not in splits}
    configs = most_demanding(space)
    for one in dict.fromkeys(chosen_on):
        check_truth(annotations, splits[one].validation)
        facts = annotations, splits[one].train, source.num_clips, source.dim
        for config in configs:
            method_of(config).check(config, told(config.supervision, *facts))
    return source, annotations, notes, splits


def _take(
    folder: RunFolder, space: Space, mark: str, resume: bool, held: ExitStack
) -> tuple[int, float | None, tuple[str, ...]]:
    """Makes the run folder, or takes up an old one that fits; holds its lock from here on. Raises InputError.

    Returns which driver of the run this is, when the one before it last wrote, and what is to be said.
    """
    try:
        folder.root.mkdir(parents=True, exist_ok=resume)
    except FileExistsError:
        raise taken(folder) from None
    held.enter_context(journal.only_driver(folder.lock))
    folder.log.parent.mkdir(exist_ok=True)
    session, last_seen, grown = 1, None, ()
    if folder.journal.exists():
        last_seen = folder.journal.stat().st_mtime
        for path in (folder.journal, folder.confirm_journal):
            repaired = journal.repair(path)
            if repaired:
                _note(folder, repaired)
        session, grown = _fits(folder, space, mark)
    with whole(folder.space_yaml) as partial:
        partial.write_text(space.document, encoding="utf-8")
    return session, last_seen, grown


def _note(folder: RunFolder, text: str) -> None:
    with folder.log.open("a", encoding="utf-8") as log:
        log.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {text}\n")


def _fits(folder: RunFolder, space: Space, mark: str) -> tuple[int, tuple[str, ...]]:
    """Checks that the study can be gone on with; which driver this is, and what is to be said. Raises InputError."""
    old = read_kept(folder.space_yaml) if folder.space_yaml.exists() else space
    changed, grown = differences(old, space), growth(old, space)
    if changed:
        raise InputError(changed)
    said = (grown,) if grown else ()
    study = journal.load(folder.journal)
    if study is None:
        return 1, said
    attributes = study.user_attrs
    if attributes.get(record.FINGERPRINT, mark) != mark:
        rule = f"must be the data that the study was made on (fingerprint {attributes[record.FINGERPRINT][:12]}...)"
        raise InputError(f"data.root: {rule}, got others ({mark[:12]}...)")
    return len(attributes.get(record.SESSIONS, [])) + 1, said
