"""Where a data set comes from: a path, D4RL's file, a download only when asked, else the shipped behaviour policies."""

import http.server
import os
import threading
from pathlib import Path

import pytest

from awac.data.d4rl import dataset_file, download, resolve_dataset
from awac.envs import parse_d4rl_id
from awac.errors import DataError

RECORDED = Path(__file__).parent / "data" / "ant_recorded.hdf5"
CONTENT = RECORDED.read_bytes()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home with nothing in it and no address to download from."""
    for name in ("D4RL_DATASET_DIR", "AWAC_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWAC_D4RL_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path


def place(folder, name="ant_expert-v2.hdf5"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(CONTENT)
    return folder / name


@pytest.mark.parametrize(
    ("dataset_id", "file"),
    [
        ("ant-expert-v2", "ant_expert-v2.hdf5"),
        ("ant-medium-expert-v2", "ant_medium_expert-v2.hdf5"),
        ("hopper-full-replay-v1", "hopper_full_replay-v1.hdf5"),
        ("ant-medium-expert-v0", "ant_medium_expert.hdf5"),
        ("hopper-medium-replay-v0", "hopper_mixed.hdf5"),
        ("walker2d-medium-replay-v0", "walker_mixed.hdf5"),
    ],
)
def test_files_are_named_as_d4rl_names_them(dataset_id, file):
    assert dataset_file(parse_d4rl_id(dataset_id)) == file


def test_a_path_is_read_as_it_is():
    data, origin = resolve_dataset(str(RECORDED))
    assert (origin.kind, origin.path, origin.rows, origin.episodes) == ("file", RECORDED, 2514, 12)
    assert origin.mean_return == pytest.approx(data.episode_returns().mean())
    assert f"2514 rows, 12 episodes, mean return {origin.mean_return:.1f} (file " in origin.describe()


def test_d4rls_file_in_the_home_folder_comes_before_generating(home):
    path = place(home / ".d4rl" / "datasets")
    _, origin = resolve_dataset("ant-expert-v2")
    assert (origin.kind, origin.path) == ("d4rl", path)
    assert "D4RL's recording" in origin.describe()


def test_d4rl_dataset_dir_comes_before_the_home_folder(home, monkeypatch):
    place(home / ".d4rl" / "datasets")
    path = place(home / "elsewhere")
    monkeypatch.setenv("D4RL_DATASET_DIR", str(home / "elsewhere"))
    assert resolve_dataset("ant-expert-v2")[1].path == path


@pytest.mark.parametrize("mix", ["random", "medium", "expert", "medium-expert"])
def test_without_a_file_the_shipped_policies_record_the_ants_mixes(home, mix):
    data, origin = resolve_dataset(f"ant-{mix}-v2", rows=60, seed=3)
    assert origin.kind == "generated" and len(data) == 60
    assert origin.path.parent == home / ".cache" / "awac"
    line = origin.describe()
    assert line.startswith(f"Data set ant-{mix}-v2: 60 rows, ")
    assert line.endswith(", seed 3; not D4RL's recording)") and "\n" not in line
    assert f"ant_{mix.split('-')[-1]}" in line


def test_generated_rows_are_cached_by_rows_and_seed(home):
    first = resolve_dataset("ant-random-v2", rows=50)[1].path
    stamp = first.stat().st_mtime_ns
    assert resolve_dataset("ant-random-v2", rows=50)[1].path == first
    assert first.stat().st_mtime_ns == stamp
    others = {resolve_dataset("ant-random-v2", **other)[1].path for other in ({"rows": 51}, {"rows": 50, "seed": 1})}
    assert len(others | {first}) == 3


@pytest.mark.parametrize("variable", ["AWAC_CACHE_DIR", "XDG_CACHE_HOME"])
def test_the_cache_folder_can_be_moved(home, monkeypatch, variable):
    monkeypatch.setenv(variable, str(home / "moved"))
    assert home / "moved" in resolve_dataset("ant-random-v2", rows=20)[1].path.parents


def test_a_cache_folder_that_cannot_be_made_is_a_data_error(home, monkeypatch):
    (home / "file").write_text("")
    monkeypatch.setenv("AWAC_CACHE_DIR", str(home / "file" / "cache"))
    with pytest.raises(DataError, match="AWAC_CACHE_DIR"):
        resolve_dataset("ant-random-v2", rows=20)


@pytest.mark.parametrize("dataset_id", ["hopper-medium-v2", "ant-medium-replay-v2", "ant-full-replay-v2"])
def test_what_cannot_be_generated_says_how_to_get_it(home, dataset_id):
    with pytest.raises(DataError) as error:
        resolve_dataset(dataset_id)
    for word in (dataset_id, "--download", "D4RL_DATASET_DIR", "path"):
        assert word in str(error.value)
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(("name", "words"), [("ant-exprt-v2", "'ant-expert-v2'"), ("./none.hdf5", "no such file")])
def test_neither_a_file_nor_an_id_is_a_data_error(name, words):
    with pytest.raises(DataError, match=words):
        resolve_dataset(name)


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT with ranges; `cut` breaks the connection off after that many bytes, once."""

    content, cut, requests = CONTENT, None, []

    def do_GET(self):
        kind = type(self)
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        kind.requests.append((self.path, start))
        if "hopper" in self.path:
            return self.send_error(404)
        if start >= len(kind.content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(kind.content) - 1}/{len(kind.content)}")
        self.send_header("Content-Length", str(len(kind.content) - start))
        self.end_headers()
        self.wfile.write(kind.content[start : kind.cut])
        kind.cut = None

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    handler = type("Handler", (Server,), {"requests": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWAC_D4RL_URL", f"http://127.0.0.1:{running.server_port}/data/")
        yield handler
        running.shutdown()


def datasets(home):
    folder = home / ".d4rl" / "datasets"
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def test_nothing_is_downloaded_unless_asked_for(server, home):
    resolve_dataset("ant-random-v2", rows=20)
    assert server.requests == []


def test_a_download_lands_where_d4rl_keeps_it_and_is_used(server, home):
    data, origin = resolve_dataset("ant-expert-v2", download=True)
    assert origin.kind == "d4rl" and len(data) == 2514
    assert datasets(home) == {"ant_expert-v2.hdf5": CONTENT}
    assert server.requests == [("/data/gym_mujoco_v2/ant_expert-v2.hdf5", 0)]
    resolve_dataset("ant-expert-v2", download=True)
    assert len(server.requests) == 1


def test_an_interrupted_download_goes_on_where_it_stopped(server, home):
    server.cut = 300_000
    with pytest.raises(DataError, match=f"ended after 300000 of {len(CONTENT)} bytes; run again"):
        download("ant-expert-v2")
    assert list(datasets(home)) == ["ant_expert-v2.hdf5.part"]
    assert download("ant-expert-v2").read_bytes() == CONTENT
    assert [start for _, start in server.requests] == [0, 300_000]
    assert list(datasets(home)) == ["ant_expert-v2.hdf5"]


def test_a_part_that_is_longer_than_the_file_is_fetched_anew(server, home):
    part = place(home / ".d4rl" / "datasets", "ant_expert-v2.hdf5.part")
    part.write_bytes(b"x" * (len(CONTENT) + 5))
    assert download("ant-expert-v2").read_bytes() == CONTENT


def test_a_download_that_is_no_hdf5_leaves_nothing(server, home):
    server.content = b"<html>moved</html>"
    with pytest.raises(DataError, match="no HDF5 file"):
        download("ant-expert-v2")
    assert datasets(home) == {}


@pytest.mark.parametrize(
    ("dataset_id", "url", "words"),
    [
        ("hopper-medium-v2", None, "answered 404"),
        ("ant-expert-v2", "http://127.0.0.1:9", "download failed"),
        ("ant-expert-v2", "file:///etc", "only http and https"),
        ("ant-expert-v9", None, "nearest known one is 'ant-expert-v"),
    ],
)
def test_a_failed_download_is_one_clear_line(server, home, monkeypatch, dataset_id, url, words):
    if url:
        monkeypatch.setenv("AWAC_D4RL_URL", url)
    with pytest.raises(DataError, match=words) as error:
        download(dataset_id)
    assert "\n" not in str(error.value)
    assert datasets(home) == {}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_named(server, home, monkeypatch):
    folder = home / "locked"
    folder.mkdir(mode=0o500)
    monkeypatch.setenv("D4RL_DATASET_DIR", str(folder))
    with pytest.raises(DataError, match="cannot be written"):
        download("ant-expert-v2")
