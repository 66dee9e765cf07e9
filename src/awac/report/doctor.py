"""The doctor's verdict on the data of the runs, where the data are on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from awac.config import Config, EnvConfig
from awac.data.doctor import examine, summary
from awac.data.sources.resolve import at_hand, resolve_dataset
from awac.envs.make import make_env
from awac.envs.tasks import Task
from awac.errors import AWACError
from awac.report.content import Section
from awac.report.results import Results, Table
from awac.training.resume import fingerprint


def verdicts(results: Results) -> Iterator[Section]:
    """A section with a table: the verdict on each data set, and what is not in order about it."""
    rows: list[list[str]] = []
    seen = set()
    for task in results.tasks:
        for run in results.of_task(task):
            data = run.manifest.get("data", {})
            if (task, data.get("sha256")) not in seen:
                seen.add((task, data.get("sha256")))
                rows += [[task, *found] for found in _verdict(Config.from_dict(run.manifest["config"]).env, data)]
    text = "What `awac doctor` finds in the data, where those that were trained on are on this machine."
    yield Section("Data check", text, [Table(["task", "verdict", "check", "finding"], rows)])


def _verdict(env: EnvConfig, data: dict) -> list[list[str]]:
    name = env.dataset or env.task
    if "sha256" not in data:
        return [["–", "rows", "the runs are of a version that did not note which rows they were"]]
    if not at_hand(name):
        return [["–", "file", f"{name} is not on this machine"]]
    task = Task.of(env)
    try:
        with contextlib.closing(make_env(task)) as made:
            rows, _ = resolve_dataset(name, env=made, action_unit=env.action_unit, progress=False)
        if fingerprint(rows) != data["sha256"]:
            return [["–", "rows", f"the {name} of this machine has other rows than the runs were trained on"]]
        del rows
        findings = list(examine(name, task, action_unit=env.action_unit))
    except AWACError as error:
        return [["–", "file", str(error)]]
    verdict, counts = summary(findings)
    return [[verdict, "all", counts], *(list(finding) for finding in findings if finding.verdict != "ok")]
