"""Untrusted .npy files: hostile pickles are refused by name, damaged ones give InputError, good ones their data."""

import inspect
import io
import os
import pickle
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from haan.data.haan_format import open_haan
from haan.data.npy import map_array, read_array, read_header, read_objects
from haan.errors import InputError, MissingDataError
from tests.haan.data import tiny
from tests.paths import ROOT

ITEMS = [[[0, 1], [1, 2]], [], [[1, 3]]]


def header(shape: tuple[int, ...], descr: str = "|O") -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": descr, "fortran_order": False, "shape": shape})
    return out.getvalue()


def glob(module: str, name: str) -> bytes:
    """The opcode that names a global."""
    return f"c{module}\n{name}\n".encode()


def pickled(value: Any) -> bytes:
    """Opcodes that push a value: a pickle without its first two bytes and its last."""
    return pickle.dumps(value, 2)[2:-1]


def write(folder: Path, body: bytes, shape: tuple[int, ...] = (1,)) -> Path:
    path = folder / "labels.npy"
    path.write_bytes(header(shape) + body)
    return path


HOSTILE: dict[str, tuple[str, Callable[[str], bytes]]] = {
    "os.system": (
        "os.system",
        lambda target: b"\x80\x02" + glob("os", "system") + pickled((f"touch {target}",)) + b"R.",
    ),
    "posix.system": (
        "posix.system",
        lambda target: b"\x80\x02" + glob("posix", "system") + pickled((f"touch {target}",)) + b"R.",
    ),
    "builtins.open": (
        "builtins.open",
        lambda target: b"\x80\x02" + glob("builtins", "open") + pickled((target, "w")) + b"R.",
    ),
    "open by Python 2's name": (
        # protocols below 3 translate __builtin__ to builtins, unless find_class is our own
        "__builtin__.open",
        lambda target: b"\x80\x02" + glob("__builtin__", "open") + pickled((target, "w")) + b"R.",
    ),
    "nested, through getattr": (
        "builtins.getattr",
        lambda target: (
            b"\x80\x02" + glob("builtins", "getattr") + b"(" + glob("builtins", "__import__") + pickled(("os",)) + b"R"
            + pickled("system") + b"tR" + pickled((f"touch {target}",)) + b"R."
        ),
    ),
    "dotted, inside an admitted module": (
        "numpy.lib.npyio.os.system",
        lambda target: (
            b"\x80\x04" + pickled("numpy") + pickled("lib.npyio.os.system") + b"\x93" + pickled((f"touch {target}",))
            + b"R."
        ),
    ),
    "dotted, behind an admitted global": (
        "numpy.ndarray.tofile",
        lambda target: (
            b"\x80\x04" + pickled("numpy") + pickled("ndarray.tofile") + b"\x93" + pickled((None, target)) + b"R."
        ),
    ),
    "by an INST opcode": (
        "os.system",
        lambda target: b"(" + pickled(f"touch {target}") + b"ios\nsystem\n.",
    ),
    "by object construction": (
        "subprocess.Popen",
        lambda target: b"\x80\x02" + glob("subprocess", "Popen") + pickled((["touch", target],)) + b"\x81.",
    ),
    "numpy.load, a function of NumPy's": (
        "numpy.load",
        lambda target: b"\x80\x02" + glob("numpy", "load") + pickled((target,)) + b"R.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_is_refused_by_name_and_does_nothing(tmp_path: Path, name: str) -> None:
    forbidden, body = HOSTILE[name]
    target = tmp_path / "pwned"
    with pytest.raises(InputError) as error:
        read_objects(write(tmp_path, body(str(target))), "labels")
    rule = "must need no pickled global but NumPy's own"
    assert error.value.messages == [f"{tmp_path / 'labels.npy'}: labels: {rule}, got {forbidden}"]
    assert not target.exists()


@pytest.mark.parametrize("name", ["os.system", "posix.system", "builtins.open", "nested, through getattr"])
def test_the_same_pickles_would_do_harm_if_they_were_trusted(tmp_path: Path, name: str) -> None:
    """Else the test above could pass for a pickle that never worked."""
    target = tmp_path / "pwned"
    opened = pickle.loads(HOSTILE[name][1](str(target)))
    if hasattr(opened, "close"):
        opened.close()
    assert target.exists()


def test_a_hostile_data_set_is_refused_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "pwned"
    body = HOSTILE["os.system"][1](str(target))
    with pytest.raises(InputError, match=r"labels\.npy: labels: must need no pickled global .*, got os\.system"):
        open_haan(tiny.tiny(tmp_path / "d", labels=header((6,)) + body))
    assert not target.exists()


def test_a_hostile_pickle_inside_an_honest_array_is_refused(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'pwned'}",)

    path = tmp_path / "labels.npy"
    np.save(path, tiny.objects([[0], Bomb()]), allow_pickle=True)
    with pytest.raises(InputError, match=r"got (os|posix)\.system"):
        read_objects(path, "labels")
    assert not (tmp_path / "pwned").exists()


def test_codecs_encode_takes_only_what_numpy_gives_it(tmp_path: Path) -> None:
    body = b"\x80\x02" + glob("_codecs", "encode") + pickled(("a", "rot13")) + b"R."
    with pytest.raises(InputError, match="'latin1', got 'rot13'"):
        read_objects(write(tmp_path, body), "labels")


def test_persistent_ids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="persistent ids are not admitted"):
        read_objects(write(tmp_path, b"Pid\n."), "labels")


def by_numpy(array: np.ndarray, protocol: int, core: str) -> bytes:
    """An object array's file, the module names those of NumPy 1 (`numpy.core`) or 2 (`numpy._core`)."""
    body = pickle.dumps(array, protocol=protocol)
    for old in ("numpy._core", "numpy.core"):
        for module in ("multiarray", "numeric"):
            then, now = f"{old}.{module}".encode(), f"{core}.{module}".encode()
            body = body.replace(b"c" + then + b"\n", b"c" + now + b"\n")
            body = body.replace(bytes([0x8C, len(then)]) + then, bytes([0x8C, len(now)]) + now)
    return header(array.shape) + _without_frames(body)


def _without_frames(body: bytes) -> bytes:
    """Frames (protocol 4 and up) hold lengths, which a patched name makes wrong; they may be left out."""
    at = 2
    while body[at : at + 1] == b"\x95":
        body = body[:at] + body[at + 9 :]
    return body


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
def test_object_arrays_of_numpy_1_and_2_read_alike(tmp_path: Path, protocol: int, core: str) -> None:
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    items = [*ITEMS, matrix, np.float64(1.5), np.str_("name"), "é", b"\xff", None]
    path = tmp_path / "labels.npy"
    path.write_bytes(by_numpy(tiny.objects(items), protocol, core))
    assert f"{core}.multiarray".encode() in path.read_bytes()
    found = read_objects(path, "labels")
    assert len(found) == len(items) and found[:3] == ITEMS and found[4:] == items[4:]
    np.testing.assert_array_equal(found[3], matrix)
    assert found[3].dtype == np.float32


def test_what_numpy_saves_now_reads_as_it_was(tmp_path: Path) -> None:
    np.save(tmp_path / "o.npy", tiny.objects(ITEMS), allow_pickle=True)
    assert read_objects(tmp_path / "o.npy", "labels") == ITEMS


def test_a_regular_array_is_mapped_and_not_read(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.save(tmp_path / "f.npy", array)
    mapped = map_array(tmp_path / "f.npy", "features")
    assert isinstance(mapped, np.memmap) and not mapped.flags.writeable
    np.testing.assert_array_equal(mapped, array)
    assert read_header(tmp_path / "f.npy", "features") == ((3, 4), np.dtype(np.float32))
    assert not isinstance(read_array(tmp_path / "f.npy", "features"), np.memmap)
    np.testing.assert_array_equal(read_objects(tmp_path / "f.npy", "features"), array)


def test_fortran_order_and_version_2_headers_read(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float64).reshape(2, 3)
    np.save(tmp_path / "f.npy", np.asfortranarray(array))
    np.testing.assert_array_equal(read_array(tmp_path / "f.npy", "features"), array)
    with (tmp_path / "v2.npy").open("wb") as file:
        np.lib.format.write_array(file, array, version=(2, 0))
    np.testing.assert_array_equal(read_array(tmp_path / "v2.npy", "features"), array)


def whole_files(folder: Path) -> dict[str, bytes]:
    np.save(folder / "objects.npy", tiny.objects(ITEMS), allow_pickle=True)
    np.save(folder / "regular.npy", np.arange(12, dtype=np.float32).reshape(3, 4))
    return {path.stem: path.read_bytes() for path in (folder / "objects.npy", folder / "regular.npy")}


@pytest.mark.parametrize("kind", ["objects", "regular"])
def test_every_truncation_is_refused(tmp_path: Path, kind: str) -> None:
    whole, path = whole_files(tmp_path)[kind], tmp_path / "cut.npy"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError) as error:
            read_objects(path, "labels")
        (message,) = error.value.messages
        assert message.startswith(f"{path}: labels: must be a ") and ", got " in message


def test_missing_and_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError) as error:
        read_objects(tmp_path / "labels.npy", "labels")
    assert error.value.messages == [f"{tmp_path / 'labels.npy'}: labels: no such file"]
    with pytest.raises(InputError, match="labels: must be readable, got .*directory"):
        read_objects(tmp_path, "labels")


@pytest.mark.parametrize(
    "content",
    [b"", b"\x93NUMPY", b"PK\x03\x04", b"\x93NUMPY\x01\x00\xff\xff{", b"\x93NUMPY\x09\x00v\x00", b"text\n" * 50],
)
def test_garbage_is_no_npy_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "labels.npy").write_bytes(content)
    for read in (read_objects, read_array, map_array, read_header):
        with pytest.raises(InputError, match=r"labels\.npy: labels: must be a \.npy file, got "):
            read(tmp_path / "labels.npy", "labels")


@pytest.mark.parametrize("text", ["__import__('os').system('touch pwned')", "{'descr': '<f4'}", "[" * 3000, "1/0"])
def test_a_header_that_is_no_header_is_refused(tmp_path: Path, text: str) -> None:
    raw = text.encode()
    (tmp_path / "f.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(raw).to_bytes(2, "little") + raw)
    with pytest.raises(InputError, match=r"must be a \.npy file"):
        read_array(tmp_path / "f.npy", "features")


@pytest.mark.parametrize("shape", [(2**49,), (2**30, 2**30), (-1, 4), (2**62, 4)])
def test_a_shape_beyond_reason_is_refused_before_memory_is_asked_for(tmp_path: Path, shape: tuple[int, ...]) -> None:
    (tmp_path / "f.npy").write_bytes(header(shape, "<f4"))
    with pytest.raises(InputError, match=r"f\.npy: features: must have a sensible shape, got "):
        read_array(tmp_path / "f.npy", "features")


@pytest.mark.parametrize("descr", ["<f4", "|V65536", "|V131072"])
def test_a_shape_larger_than_the_file_is_refused(tmp_path: Path, descr: str) -> None:
    (tmp_path / "f.npy").write_bytes(header((2**47,), descr))
    with pytest.raises(InputError, match=r"f\.npy: features: must be a whole regular \.npy array, got "):
        map_array(tmp_path / "f.npy", "features")


def test_the_pickled_array_must_be_the_one_the_header_announces(tmp_path: Path) -> None:
    body = pickle.dumps(tiny.objects(ITEMS), 4)
    with pytest.raises(InputError, match=r"must hold an array of shape \(4,\), got ndarray"):
        read_objects(write(tmp_path, body, (4,)), "labels")
    with pytest.raises(InputError, match=r"must hold an array of shape \(3,\), got list"):
        read_objects(write(tmp_path, pickle.dumps(ITEMS, 4), (3,)), "labels")
    with pytest.raises(InputError, match=r"must hold one object a video, got shape \(3, 1\) of object"):
        read_objects(write(tmp_path, body, (3, 1)), "labels")


SERVER = """
import resource, sys, warnings
from pathlib import Path
from haan.data.npy import read_objects
from haan.errors import InputError
warnings.simplefilter("ignore")  # what NumPy says about an odd header is no concern here
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
for line in sys.stdin:
    try:
        outcome = "data " + repr(read_objects(Path(line[:-1]), "labels"))[:40].replace("\\n", " ")
    except InputError as error:
        outcome = "refused"
    except BaseException as error:
        outcome = f"{type(error).__name__}: {error}"
    print(ascii(outcome), flush=True)
"""


class Elsewhere:
    """Reads files in another process with 2 GiB of memory, so that a crash is an outcome like any other."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def read(self, path: Path) -> str:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", SERVER], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        process = self._process
        assert process.stdin and process.stdout
        process.stdin.write(f"{path}\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            self.close()
            return f"crash: the process ended with {process.returncode}"
        return answer.strip()[1:-1]

    def close(self) -> None:
        if self._process is not None:
            assert self._process.stdin and self._process.stdout
            self._process.stdin.close()
            self._process.stdout.close()
            self._process.wait()
            self._process = None


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    reader = Elsewhere()
    yield reader
    reader.close()


def fine(outcome: str) -> bool:
    return outcome == "refused" or outcome.startswith("data ")


FUZZ = settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FUZZ
@given(body=st.binary(max_size=200), shape=st.sampled_from([(0,), (1,), (3,)]))
def test_random_bytes_after_an_object_header_are_refused(
    tmp_path: Path, elsewhere: Elsewhere, body: bytes, shape: tuple[int, ...]
) -> None:
    assert elsewhere.read(write(tmp_path, body, shape)) == "refused"


@FUZZ
@given(body=st.binary(max_size=200), descr=st.sampled_from(["<f4", "|u1", "<U2", "|V3"]))
def test_random_bytes_after_a_regular_header_are_data_or_refused(
    tmp_path: Path, elsewhere: Elsewhere, body: bytes, descr: str
) -> None:
    path = tmp_path / "labels.npy"
    path.write_bytes(header((3, 4), descr) + body)
    assert elsewhere.read(path).split()[0] == ("data" if len(body) >= 12 * np.dtype(descr).itemsize else "refused")


@FUZZ
@given(data=st.data())
def test_flipped_bytes_of_a_regular_file_are_data_or_refused(
    tmp_path: Path, elsewhere: Elsewhere, data: st.DataObject
) -> None:
    damaged = bytearray(whole_files(tmp_path)["regular"])
    flips = st.tuples(st.integers(0, len(damaged) - 1), st.integers(0, 255))
    for at, value in data.draw(st.lists(flips, min_size=1, max_size=4)):
        damaged[at] = value
    (tmp_path / "labels.npy").write_bytes(damaged)
    assert fine(elsewhere.read(tmp_path / "labels.npy"))


def test_every_single_flipped_byte_of_an_object_file_gives_data_or_is_refused(
    tmp_path: Path, elsewhere: Elsewhere
) -> None:
    whole, path, bad = whole_files(tmp_path)["objects"], tmp_path / "labels.npy", []
    start = whole.index(b"\n") + 1
    for at in range(start, len(whole)):
        for value in {0, 255, *(whole[at] ^ (1 << bit) for bit in range(8)), *b"Rbrj."}:
            path.write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
            outcome = elsewhere.read(path)
            if not fine(outcome):
                bad.append((at - start, whole[at], value, outcome))
        assert not bad


# What an ndarray's or a dtype's own state can say, with admitted globals alone.
ARRAY = glob("numpy.core.multiarray", "_reconstruct") + b"(" + glob("numpy", "ndarray") + b"K\x00\x85C\x01btR"
OBJECT_TYPE = (
    glob("numpy", "dtype") + pickled(("O8", 0, 1)) + b"R" + pickled((3, "|", None, None, None, -1, -1, 63)) + b"b"
)
# A structure of one object whose flags say that it holds none, so that raw bytes become its pointers.
LYING_TYPE = (
    glob("numpy", "dtype") + pickled(("V8", 0, 1)) + b"R"
    + b"(K\x03" + pickled("|") + b"N" + pickled(("a",)) + b"}" + pickled("a") + b"(" + OBJECT_TYPE + b"K\x00ts"
    + b"K\x08K\x01K\x00tb"
)  # fmt: skip
STATES = {
    "a list shorter than the array": b"(K\x01K\x05\x85" + OBJECT_TYPE + b"\x89]K\x01atb",
    "a type that hides its objects": b"(K\x01K\x01\x85" + LYING_TYPE + b"\x89C\x08AAAAAAAAtb",
}


@pytest.mark.parametrize("state", STATES)
def test_a_state_that_lies_is_refused(tmp_path: Path, elsewhere: Elsewhere, state: str) -> None:
    """NumPy would read memory that is not the file's; the second takes bytes of the file for a pointer."""
    shape = (5,) if "list" in state else (1,)
    assert elsewhere.read(write(tmp_path, b"\x80\x03" + ARRAY + STATES[state] + b".", shape)) == "refused"


NOT_AN_ARRAY = {
    "ndarray called with a buffer": glob("numpy", "ndarray") + pickled(((1,), "O", b"AAAAAAAA")) + b"R",
    "ndarray called for much memory": glob("numpy", "ndarray") + pickled(((2**40,),)) + b"R",
    "ndarray built by NEWOBJ": glob("numpy", "ndarray") + pickled(((1,), "O")) + b"\x81",
    "ndarray given attributes": glob("numpy", "ndarray") + pickled({"dtype": 1}) + b"b",
    "a function given attributes": glob("numpy.core.multiarray", "scalar") + pickled({"_function": 1}) + b"b",
    "a function given slots": glob("numpy", "dtype") + pickled((None, {"_function": 1})) + b"b",
    "reconstructed with a shape": (
        glob("numpy.core.multiarray", "_reconstruct") + b"(" + glob("numpy", "ndarray") + b"K\x05\x85C\x01OtR"
    ),
    "reconstructed as a dtype": (
        glob("numpy.core.multiarray", "_reconstruct") + b"(" + glob("numpy", "dtype") + b"K\x00\x85C\x01btR"
    ),
    "a scalar that is an object": (
        glob("numpy.core.multiarray", "scalar") + b"(" + OBJECT_TYPE + b"C\x08AAAAAAAAtR"
    ),
    "a scalar shorter than its type": (
        glob("numpy.core.multiarray", "scalar") + b"(" + glob("numpy", "dtype") + pickled(("f8",)) + b"RC\x01AtR"
    ),
    "objects from a buffer": (
        glob("numpy._core.numeric", "_frombuffer") + b"(C\x08AAAAAAAA" + OBJECT_TYPE + b"K\x01\x85X\x01\x00\x00\x00CtR"
    ),
    "a structured type": glob("numpy", "dtype") + pickled(("O,i4",)) + b"R",
    "a type by its Python class": glob("numpy", "dtype") + b"(" + glob("builtins", "object") + b"tR",
    "an array filled twice": ARRAY + 2 * (b"(K\x01K\x01\x85" + OBJECT_TYPE + b"\x89]K\x01atb"),
    "a shape below 0": ARRAY + b"(K\x01J\xff\xff\xff\xff\x85" + OBJECT_TYPE + b"\x89]tb",
    "state of one item": ARRAY + b"K\x01\x85b",
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_AN_ARRAY)
def test_other_uses_of_numpy_s_own_globals_are_refused(tmp_path: Path, elsewhere: Elsewhere, name: str) -> None:
    assert elsewhere.read(write(tmp_path, b"\x80\x03" + NOT_AN_ARRAY[name] + b".")) == "refused"


def test_text_that_is_no_unicode_is_data_or_refused(tmp_path: Path, elsewhere: Elsewhere) -> None:
    path = tmp_path / "labels.npy"
    path.write_bytes(header((1,), "<U1") + b"AAAA")
    assert fine(elsewhere.read(path))


def test_a_small_pickle_takes_little_memory(tmp_path: Path) -> None:
    path = write(tmp_path, b"\x80\x03Nr" + (2**26).to_bytes(4, "little") + b".")
    code = (
        "import sys, pathlib; from haan.data.npy import read_objects\n"
        "try: read_objects(pathlib.Path(sys.argv[1]), 'labels')\n"
        # Not getrusage: its peak is that of the process which started this one, where that was larger.
        "except Exception: print(pathlib.Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 512 * 1024  # KiB


def test_the_unpickler_written_in_python_is_there_and_keeps_its_memo_in_a_mapping() -> None:
    said = f"pickle._Unpickler was read in Python 3.11 and does something else in {platform.python_version()}"
    private: Any = getattr(pickle, "_Unpickler", None)
    assert private is not None and private is not pickle.Unpickler, said
    names = ("find_class", "persistent_load", "load")
    assert all(inspect.isfunction(getattr(private, name, None)) for name in names), said
    puts = private(io.BytesIO(b"N" + pickle.LONG_BINPUT + (2**32 - 1).to_bytes(4, "little") + b"."))
    assert puts.load() is None and puts.memo == {2**32 - 1: None}, said  # the one in C makes room for each index below
