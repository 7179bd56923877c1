"""What tests share lies in modules of its own: a test module is a leaf, so any may be changed or split alone."""

import re

from tests.paths import ROOT

IMPORT = re.compile(r"^\s*(from|import)\b.*\btest_\w+", re.MULTILINE)  # in a script that a test starts as well


def test_no_test_module_is_imported_by_another() -> None:
    found = {path: IMPORT.search(path.read_text()) for path in sorted((ROOT / "tests").rglob("*.py"))}
    assert {path.relative_to(ROOT): line[0].strip() for path, line in found.items() if line} == {}
