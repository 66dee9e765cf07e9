"""Which path a learner takes: the compiler, the cache folder, the number of threads, and what the operator supports."""

from __future__ import annotations

import dataclasses
import errno
import os
import subprocess
import sys

import mindspore as ms
import pytest
from tiny import algo, experience, learner, needs_a_compiler, networks

from awac import processors
from awac.algorithm import native
from awac.algorithm.native import build, cpus
from awac.data.collect import worker_count

pytestmark = pytest.mark.usefixtures("graph_mode")


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    """An empty cache folder and cleared function caches."""
    monkeypatch.setenv("AWAC_CACHE_DIR", str(tmp_path / "cache"))
    build._build.cache_clear()
    yield
    build._build.cache_clear()


@pytest.fixture
def compiler(monkeypatch, tmp_path):
    """A compiler of two words that compiles nothing, quickly, and a loader that takes its result."""
    script = tmp_path / "cxx"
    script.write_text('#!/bin/sh\n[ "$1" = g++ ] || exit 1\nwhile [ "$1" != -o ]; do shift; done\n: > "$2"\n')
    script.chmod(0o755)
    monkeypatch.setenv("CXX", f"'{script}' g++")
    monkeypatch.setattr(build, "_loads", lambda path: path.is_file())


@pytest.mark.parametrize(
    "command, words",
    [
        ("/nowhere/g++", "graph, no compiler found: /nowhere/g++"),
        ("false", "graph, false failed: exit status 1"),
        ("sh -c 'echo warning: x >&2; echo fatal error: no header >&2; exit 1'", "fatal error: no header"),
        ("g++ 'unclosed", "is not a command"),
    ],
)
def test_without_a_working_compiler_the_graph_runs_and_says_why(monkeypatch, command, words):
    monkeypatch.setenv("CXX", command)
    our = learner(algo())
    assert our.steps.native is None and words in our.path and "\n" not in our.path


def test_a_mindspore_without_onednn_is_named(compiler, monkeypatch, tmp_path):
    monkeypatch.setattr(build.ms, "__file__", str(tmp_path / "mindspore" / "__init__.py"))
    path, reason = build.library()
    lib = tmp_path / "mindspore" / "lib"
    assert (path, reason) == (None, f"MindSpore {build.ms.__version__} has no libdnnl.so.2 or libdnnl.so.3 in {lib}")


def test_a_compiler_may_be_several_words(compiler, tmp_path):
    path, _ = build.library()
    assert path and path.startswith(str(tmp_path / "cache" / "native"))
    assert os.stat(tmp_path / "cache" / "native").st_mode & 0o077 == 0


def test_without_a_writable_cache_it_is_built_in_a_temporary_folder(compiler, monkeypatch):
    monkeypatch.setenv("AWAC_CACHE_DIR", "/proc/nowhere")
    path, remark = build.library()
    assert path and "awac-" in path and not path.startswith("/proc")
    assert remark == "built for this run: /proc/nowhere/native can't be written to (No such file or directory)"


def test_a_full_cache_is_not_the_end(compiler, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(build.shutil, "copy", full)
    path, remark = build.library()
    assert path and os.path.isfile(path) and remark.endswith("can't be written to (No space left on device)")


def test_a_colon_in_the_cache_folder_is_avoided(compiler, monkeypatch, tmp_path):
    monkeypatch.setenv("AWAC_CACHE_DIR", str(tmp_path / "a:b"))
    path, remark = build.library()
    assert path and ":" not in path and remark.endswith("a:b/native has a colon in it")


def test_a_cache_that_was_emptied_or_a_folder_that_was_left_is_no_fault(compiler, monkeypatch, tmp_path):
    path, _ = build.library()
    os.remove(path)
    assert build.library() == (path, "") and os.path.isfile(path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("AWAC_CACHE_DIR", "relative")
    path, _ = build.library()
    assert path and os.path.isabs(path)


def test_a_build_that_failed_is_not_repeated(monkeypatch, tmp_path):
    counter = tmp_path / "calls"
    monkeypatch.setenv("CXX", f"sh -c 'echo x >> {counter}; echo collect2: error: ld >&2; echo no room >&2; exit 1'")
    assert [build.library()[1] for _ in range(2)] == ["sh failed: no room"] * 2
    assert counter.read_text() == "x\n"


def test_a_process_started_from_here_has_the_threads_of_its_own(monkeypatch):
    code = "import os, subprocess, awac; awac.AWAC; subprocess.run(['printenv', 'OMP_NUM_THREADS'])"
    for given, seen in ((None, ""), ("3", "3\n")):
        env = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
        env |= {"OMP_NUM_THREADS": given} if given else {}
        assert subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True).stdout == seen


@needs_a_compiler
def test_threads_that_the_system_does_not_give_are_not_waited_for(tmp_path):
    (tmp_path / "main.cc").write_text(
        """#include <dlfcn.h>
        #include <pthread.h>
        #include <cerrno>
        #include <cstdio>
        #include "pool.h"
        extern "C" int pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *x) noexcept {
          static int made = 0;
          if (++made > 2) return EAGAIN;
          return reinterpret_cast<decltype(&pthread_create)>(dlsym(RTLD_NEXT, "pthread_create"))(t, a, f, x);
        }
        int main() {
          std::atomic<int> sum{0};
          for (int i = 0; i < 1000; ++i) awac::Pool::get(16).run(10, [&](int64_t k) { sum += k; });
          printf("%d", sum.load());
          fflush(stdout);
          _Exit(0);
        }"""
    )
    command = [
        "g++",
        "-std=c++17",
        "-O1",
        f"-I{build.FOLDER}",
        "-rdynamic",
        "-pthread",
        "main.cc",
        "-o",
        "main",
        "-ldl",
    ]
    subprocess.run(command, check=True, cwd=tmp_path)
    assert subprocess.run([tmp_path / "main"], capture_output=True, text=True, timeout=60).stdout == "45000"


def test_more_threads_than_there_is_work_are_not_started(monkeypatch):
    monkeypatch.setattr(native, "threads", lambda: 64)
    assert [native._useful_threads(algo(batch_size=size)) for size in (2, 256, 1024, 2048)] == [16, 16, 16, 32]


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_library_in_a_folder_that_others_may_write_to_is_not_loaded(compiler, tmp_path, mode):
    path, _ = build.library()
    os.chmod(tmp_path / "cache" / "native", mode)
    build._build.cache_clear()
    other, remark = build.library()
    assert other and other != path and not other.startswith(str(tmp_path / "cache"))
    assert remark.endswith("native is not the user's own, or others may write to it")


def test_a_damaged_library_is_not_loaded(tmp_path):
    (tmp_path / "learner.so").write_bytes(b"\x7fELF")
    assert not build._loads(tmp_path / "learner.so")


@needs_a_compiler
def test_a_library_of_another_version_is_not_loaded(tmp_path):
    def made(version: int):
        path = tmp_path / f"learner-{version}.so"
        source = f'extern "C" int AwacVersion() {{ return {version}; }}'
        command = ["g++", "-x", "c++", "-shared", "-fPIC", "-o", str(path), "-"]
        subprocess.run(command, input=source.encode(), check=True)
        return path

    assert build._loads(made(build.VERSION)) and not build._loads(made(build.VERSION + 1))


@needs_a_compiler
@pytest.mark.parametrize("change", ["version", "size"])
def test_the_operator_refuses_settings_of_another_version(change):
    our = learner(algo())
    settings = our.steps.settings.asnumpy().copy()
    settings[0] += change == "version"
    our.steps.settings = ms.Tensor(settings if change == "version" else settings[:-1])
    with pytest.raises(RuntimeError, match="error code|return"):
        our.learn(experience(False, steps=1))


def test_what_the_operator_does_not_know_is_named():
    config = algo()
    nets = [networks(config)[name] for name in ("actor_net", "critic_net")]
    assert native.supports(config, *nets) is None
    odd = dataclasses.make_dataclass("Odd", [("new_key", float, 1.0)], bases=(type(config),), frozen=True)
    assert native.supports(odd(**vars(config)), *nets) is None
    assert "new_key = 2.0" in str(native.supports(odd(**vars(config), new_key=2.0), *nets))
    assert "weighting 'other'" in str(native.supports(dataclasses.replace(config, weighting="other"), *nets))
    assert "in the native operator" in str(native.supports(config, nets[0], type("Mine", (type(nets[1]),), {})))


@pytest.mark.parametrize(
    "value, count", [("4,2", 4), ("3", 3), (" 2 ", 2), ("", None), ("0", None), ("abc", None), ("-1", None)]
)
def test_the_first_number_of_omp_num_threads_counts(monkeypatch, value, count):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    monkeypatch.setattr(processors.os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(processors, "cpu_limit", lambda: 5.5)
    assert cpus.threads() == (count or 5)
    assert worker_count(10**6) == 5  # processes that record data


@pytest.mark.parametrize(
    "group, files, limit",
    [
        ("0::/", {"cpu.max": "200000 100000"}, 2.0),
        ("0::/a/b", {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}, 1.5),
        ("0::/../other", {"cpu.max": "max 100000"}, None),
        ("4:cpu,cpuacct:/docker/x", {"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2.0),
        ("4:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("", {}, None),
    ],
)
def test_limits_of_control_groups_are_respected(tmp_path, group, files, limit):
    for name, text in {"proc/self/cgroup": group, **{f"sys/fs/cgroup/{key}": v for key, v in files.items()}}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert processors.cpu_limit(tmp_path) == limit


@needs_a_compiler
def test_layers_that_are_not_trained_are_left_to_the_graph(graph_mode):
    head, critic = networks(algo())["actor_net"], networks(algo())["critic_net"]
    assert native.supports(algo(), head, critic) is None
    next(iter(critic.get_parameters())).requires_grad = False
    assert native.supports(algo(), head, critic) == "layers that are not trained are not in the native operator"
