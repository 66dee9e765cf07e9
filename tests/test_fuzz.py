"""Any content of a file or argument ends in success or in one of awac's own errors: no traceback, hang or flood.

The default run takes over 2,000 cases, always the same ones; `-m nightly` takes 25 times as many, others each time.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from awac import cli
from awac.config import Config, load_config
from awac.data.sources import load_dataset
from awac.errors import AWACError
from awac.runs import checkpoint, ckpt_file
from awac.runs import files as storage
from awac.runs.replay_log import ReplayLog

NIGHTLY = 25
MEMORY = 1 << 30

GARBAGE = st.binary(max_size=200)
DAMAGE = st.one_of(
    st.tuples(st.just("cut"), st.floats(0, 1)),
    st.tuples(st.just("poke"), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8)),
    st.tuples(st.just("splice"), st.tuples(st.floats(0, 1), GARBAGE)),
    st.tuples(st.just("replace"), GARBAGE),
)


def damaged(content: bytes, damage) -> bytes:
    kind, value = damage
    if kind == "cut":
        return content[: int(value * len(content))]
    if kind == "poke":
        changed = bytearray(content)
        for place, byte in value:
            changed[min(int(place * len(changed)), len(changed) - 1)] = byte
        return bytes(changed)
    if kind == "splice":
        place = int(value[0] * len(content))
        return content[:place] + value[1] + content[place + len(value[1]) :]
    return value


def columns(rows=6):
    rng = np.random.default_rng(0)
    return {
        "observations": rng.normal(size=(rows, 3)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (rows, 2)).astype(np.float32),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "terminals": np.arange(rows) == 2,
        "timeouts": np.arange(rows) == 4,
    }


def hdf5(data) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for key, values in data.items():
            file.create_dataset(key, data=values, compression="gzip" if key == "rewards" else None)
    return buffer.getvalue()


def npz(data) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **data)
    return buffer.getvalue()


def reads(path: Path, content: bytes, read=load_dataset) -> None:
    """Reading succeeds or ends in an AWACError of one line, and does not change the file."""
    path.write_bytes(content)
    try:
        read(path)
    except AWACError as error:
        assert str(error) and "\n" not in str(error)
    assert path.read_bytes() == content


HDF5, NPZ = hdf5(columns()), npz(columns())


def check_damaged_hdf5(folder, damage):
    reads(folder / "data.hdf5", damaged(HDF5, damage))


def check_damaged_npz(folder, damage):
    reads(folder / "data.npz", damaged(NPZ, damage))


KINDS = st.sampled_from(["f4", "f8", "f2", "i1", "u8", "?", "S3", "c8", "m8[s]"])
SHAPES = st.lists(st.integers(0, 7), max_size=3)
TABLE = st.dictionaries(st.sampled_from([*columns(), "next_observations", "extra"]), st.tuples(SHAPES, KINDS))
CASE = st.tuples(TABLE, st.sampled_from([hdf5, npz]), st.sampled_from([0, 1, np.nan, -1e38]))


def check_other_shapes_and_types(folder, case):
    table, write, value = case
    data = columns()
    with np.errstate(all="ignore"):
        for key, (shape, kind) in table.items():
            data[key] = np.full(shape, 0 if kind[0] in "Sm" else value).astype(kind)
        try:
            content = write({key: v for key, v in data.items() if write is npz or v.dtype.kind != "m"})
        except (TypeError, ValueError):  # an array that the format does not take: shape () with gzip
            return
        reads(folder / "data", content)


HUGE = st.tuples(st.sampled_from(sorted(columns())), st.lists(st.integers(1, 1 << 40), min_size=1, max_size=3))


def check_huge_declared_sizes(folder, case):
    key, shape = case
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, values in columns().items():
            header = io.BytesIO()
            described = {"descr": values.dtype.str, "fortran_order": False, "shape": values.shape}
            described["shape"] = tuple(shape) if name == key else values.shape
            np.lib.format.write_array_header_1_0(header, described)
            archive.writestr(name + ".npy", header.getvalue() + values.tobytes())
    reads(folder / "data.npz", buffer.getvalue())
    reads(folder / "state.npz", buffer.getvalue(), storage.read_npz)
    if np.prod([float(n) for n in shape]) < 1e15:
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            for name, values in columns().items():
                if name != key:
                    file[name] = values
            file.create_dataset(key, shape, np.float32, chunks=tuple(min(n, 64) for n in shape))
        reads(folder / "data.hdf5", buffer.getvalue())


NASTY = """2001-99-99|[id|*a|1e400|.inf|.nan|!!timestamp x|!!binary '=='|1:99:99|{[]: 1}|? []|!!int ''|!!float x"""
NASTY = [*NASTY.split("|"), "!!python/object/apply:os.system [id]", "1" * 5000, "0x" + "f" * 9000, "[" * 5000]
KEYS = st.one_of(st.sampled_from(sorted(f for s in vars(Config()).values() for f in vars(s))), st.text(max_size=8))
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.dates())
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=2)),
)


def check_yaml_text(folder, content):
    for kind in ("env_yaml", "algo_yaml"):
        reads(folder / "config.yaml", content, lambda path, kind=kind: load_config(**{kind: str(path)}))


YAML = st.one_of(
    GARBAGE,
    st.text(alphabet="ab:{}[]&*!|>-\n \t'\"%@,?#.0159e+_~<=", max_size=60).map(str.encode),
    st.tuples(KEYS, st.sampled_from(NASTY)).map(lambda item: f"{item[0]}: {item[1]}".encode("utf-8", "replace")),
    st.tuples(KEYS, VALUES).map(lambda item: f"{item[0]}: {item[1]!r}".encode("utf-8", "replace")),
)


def check_values(folder, values):
    with contextlib.suppress(AWACError):
        load_config(overrides=values)


def check_arguments(folder, case):
    key, value, arguments = case
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            code = cli.main(["train", "--set", f"{key}={value}", *arguments])
    except SystemExit as end:
        code = end.code
    assert code in (0, 1, 2)


FLAGS = [
    "--preset",
    "--episode",
    "--seed",
    "--task",
    "--env_yaml",
    "--resume",
    "--overwrite",
    "--set",
    "--device_target",
]
ARGUMENTS = st.tuples(
    KEYS,
    st.one_of(st.text(max_size=12), VALUES.map(str), st.sampled_from(NASTY)),
    st.lists(st.one_of(st.sampled_from(FLAGS), st.text(alphabet="a1-=.", max_size=6)), max_size=4),
)


def original(folder: Path) -> dict[str, bytes]:
    """A folder's checkpoints 4 and 5 and two replay pieces, by name; made once."""
    source = folder.parent / "original"
    if not source.exists():
        weights = {"0.weight": np.ones((3, 2), np.float32), "0.bias": np.zeros((1, 2), np.float32)}
        log = ReplayLog(source)
        for name in ("rows_0_4.npy", "rows_4_6.npy"):
            rows = np.zeros((4 if "0_4" in name else 2, 3), np.float32)
            log.fingerprints[name] = storage.write(log.folder / name, lambda temp, rows=rows: np.save(temp, rows))
        for episode in (4, 5):
            state = {"counters": np.array([episode, 7, 6, 6]), "rng/batch": np.array("{}"), "x": np.ones(4, np.float32)}
            about = {"config": {}, "spaces": {}, "inserted": 6, "replay": log.needed(6, 6)}
            checkpoint.save(source, episode, dict.fromkeys(checkpoint.NETWORKS, weights), state, about, 5)
    return {str(p.relative_to(source)): p.read_bytes() for p in source.rglob("*") if p.is_file()}


def fill(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink() or not path.is_file() or path.read_bytes() != content:
            path.unlink(missing_ok=True)
            path.write_bytes(content)


def load(folder: Path) -> None:
    with contextlib.suppress(AWACError):
        manifest = checkpoint.newest(folder, need_state=True, need_rows=True, warn=lambda line: None)
        for pattern in checkpoint.NETWORKS.values():
            ckpt_file.read(folder / pattern.format(manifest["episode"]))
        checkpoint.load_state(folder, manifest["episode"])
        ReplayLog(folder).load(6, 6, 3)


def check_checkpoint_with_a_damaged_file(folder, case):
    which, damage = case
    files = original(folder)
    name = sorted(files)[which % len(files)]
    fill(folder, {**files, name: damaged(files[name], damage)})
    load(folder)


LINKS = ("/dev/zero", "/etc/passwd", "../outside.txt", "missing", ".", "policy/policy_5.ckpt")


def check_checkpoint_with_a_link(folder, case):
    which, target = case
    files = original(folder)
    fill(folder, files)
    (folder.parent / "outside.txt").write_text("mine")
    path = folder / sorted(files)[which % len(files)]
    path.unlink()
    if target == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(target)
    load(folder)
    assert (folder.parent / "outside.txt").read_text() == "mine"
    path.unlink()


NAMES = st.sampled_from(["size", "sha256", "../x", "policy/policy_5.ckpt"])
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=4,
)
FIELDS = st.sampled_from(["format", "episode", "config", "spaces", "files", "replay", "inserted"])


def check_checkpoint_with_another_manifest(folder, changes):
    files = original(folder)
    manifest = {**json.loads(files["manifest_5.json"]), **changes}
    fill(folder, {**files, "manifest_5.json": json.dumps(manifest).encode()})
    load(folder)
    checkpoint.oldest_insertion(folder)


def check_network_file(folder, damage):
    content = original(folder)["policy/policy_5.ckpt"]
    reads(folder / "net.ckpt", damaged(content, damage), ckpt_file.read)


def check_state_file(folder, damage):
    content = original(folder)["train_state/state_5.npz"]
    reads(folder / "state.npz", damaged(content, damage), storage.read_npz)


def check_replay_file(folder, damage):
    content = damaged(original(folder)["replay/rows_0_4.npy"], damage)
    (folder / "one" / "replay").mkdir(parents=True, exist_ok=True)
    path = folder / "one" / "replay" / "rows_0_4.npy"
    reads(path, content, lambda _: ReplayLog(folder / "one").load(4, 4, 3))


WHICH = st.integers(0, 99)
CHECKS = [
    (check_damaged_hdf5, DAMAGE, 350),
    (check_damaged_npz, DAMAGE, 350),
    (check_other_shapes_and_types, CASE, 200),
    (check_huge_declared_sizes, HUGE, 60),
    (check_yaml_text, YAML, 250),
    (check_values, st.dictionaries(KEYS, st.one_of(VALUES, st.sampled_from(NASTY)), max_size=2), 250),
    (check_arguments, ARGUMENTS, 150),
    (check_checkpoint_with_a_damaged_file, st.tuples(WHICH, DAMAGE), 100),
    (check_checkpoint_with_a_link, st.tuples(WHICH, st.sampled_from([*LINKS, "pipe"])), 60),
    (check_checkpoint_with_another_manifest, st.dictionaries(FIELDS, JSON, max_size=2), 80),
    (check_network_file, DAMAGE, 150),
    (check_state_file, DAMAGE, 100),
    (check_replay_file, DAMAGE, 100),
]
assert sum(cases for *_, cases in CHECKS) >= 2000
everything = pytest.mark.parametrize("check, strategy, cases", CHECKS, ids=lambda v: getattr(v, "__name__", ""))


def fuzz(check, strategy, cases, folder, monkeypatch, **options):
    import awac.training.session

    monkeypatch.setattr(awac.training.session, "train", lambda *_, **__: None)
    monkeypatch.chdir(folder)
    (folder / "x").mkdir()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is not ours
    before = peak()

    @settings(max_examples=cases, deadline=60_000, database=None, suppress_health_check=list(HealthCheck), **options)
    @given(strategy)
    def run(case):
        check(folder / "x", case)

    run()
    assert peak() - before < MEMORY


def peak() -> int:
    """This process's largest resident size so far, in bytes."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) << 10 if found else 0


@everything
def test_fuzzed_input_ends_well_or_in_one_of_our_errors(check, strategy, cases, tmp_path, monkeypatch, graph_mode):
    fuzz(check, strategy, cases, tmp_path, monkeypatch, derandomize=True)


@pytest.mark.nightly
@everything
def test_fuzzed_input_ends_well_for_many_more(check, strategy, cases, tmp_path, monkeypatch, graph_mode):
    fuzz(check, strategy, NIGHTLY * cases, tmp_path, monkeypatch)


def test_a_yaml_bomb_is_one_short_line(tmp_path):
    levels = ["&a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"&a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    (tmp_path / "bomb.yaml").write_text(f"batch_size: [{', '.join(levels)}]")  # 9^10 letters if it is written out
    with pytest.raises(AWACError, match="batch_size") as error:
        load_config(algo_yaml=str(tmp_path / "bomb.yaml"))
    assert len(str(error.value)) < 1000


def test_the_npy_header_of_a_state_file_is_held_against_its_bytes(tmp_path):
    with zipfile.ZipFile(tmp_path / "state.npz", "w") as archive:
        text = "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }".ljust(117) + "\n"
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode())
    with pytest.raises(AWACError, match="more than the file holds"):
        storage.read_npz(tmp_path / "state.npz")
