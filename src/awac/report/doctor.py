"""The doctor's verdict on the data of the runs, where the data are on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from awac.config import Config, EnvConfig
from awac.data.doctor import examine
from awac.data.sources.resolve import at_hand, resolve_dataset
from awac.envs.make import make_env
from awac.envs.tasks import Task
from awac.errors import AWACError
from awac.report.content import Section
from awac.report.results import Results, Table
from awac.training.resume import fingerprint


def verdicts(results: Results) -> Iterator[Section]:
    """A section with a table for each data set: verdict, check, finding."""
    blocks: list[Table] = []
    seen = set()
    for task in results.tasks:
        for run in results.of_task(task):
            data = run.manifest.get("data", {})
            if data.get("sha256") in seen:
                continue
            seen.add(data.get("sha256"))
            blocks.append(_verdict(task, Config.from_dict(run.manifest["config"]).env, data))
    yield Section("Data check", "What `awac doctor` finds in the data.", blocks)


def _verdict(label: str, env: EnvConfig, data: dict) -> Table:
    name = env.dataset or env.task
    header = [label, "check", "finding"]
    if not at_hand(name):
        return Table(header, [["–", "file", f"{name} is not on this machine"]])
    if "sha256" not in data:
        return Table(header, [["–", "rows", "the runs are of a version that did not note which rows they were"]])
    task = Task.parse(env.task, env.env_kwargs, env.max_episode_steps)
    try:
        with contextlib.closing(make_env(task)) as made:
            rows, _ = resolve_dataset(name, env=made, action_unit=env.action_unit, progress=False)
        if fingerprint(rows) != data["sha256"]:
            text = f"the {name} of this machine has other rows than the runs were trained on"
            return Table(header, [["–", "rows", text]])
        del rows
        findings = list(examine(name, task, action_unit=env.action_unit))
    except AWACError as error:
        return Table(header, [["–", "file", str(error)]])
    counts = [[finding.verdict for finding in findings].count(verdict) for verdict in ("ok", "warn", "fail")]
    verdict = "not fit to train on" if counts[2] else "fit, with warnings" if counts[1] else "fit"
    summary = ["verdict", "", f"{verdict} ({counts[0]} ok, {counts[1]} warn, {counts[2]} fail)"]
    return Table(header, [summary, *(list(finding) for finding in findings if finding.verdict != "ok")])
