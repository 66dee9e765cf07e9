"""The model card: what an exported policy is, in Markdown, from the run's own records."""

from __future__ import annotations

from pathlib import Path

import yaml
from gymnasium import spaces

from awac import __version__
from awac.data.normalizer import CLIP, Normalizer
from awac.runs.deployed import DeployedPolicy
from awac.runs.tables import inherited_steps, rows_by_episode

_HEAD = "# Policy for "
EVALUATIONS = 5
"""Rows of the run's last evaluations in the card."""

_LIMITS = """\
- It gives the mode of the policy: the same action for the same observation. Sampled actions are
  available from `awac.load_policy`.
- It was trained on the states of its data set, and of its online steps if any. Elsewhere its actions can be anything
  inside the bounds. Each observation value is clipped to the data's mean ± {clip:g} standard deviations: values beyond
  are treated alike. It does not check for NaN: an observation with one can give any action, or NaN.
- The scores are from one run with one seed, and from the start states of its evaluations.
- It has not been tried outside the simulator of its evaluations. Nothing checks its actions against the limits of a
  machine other than the bounds in the table."""


def text(folder: Path, policy: DeployedPolicy, file: str, use: str, difference: float) -> str:
    """The card of an exported policy.

    Args:
        folder: of the run, for its tables.
        policy: that was exported.
        file: name of the exported file.
        use: Python that runs `FILE`.
        difference: from the checkpoint's policy, as `policy_file.difference` measured it.
    """
    manifest = policy.manifest
    subject = policy.task or Path(manifest["config"]["env"]["dataset"]).name  # a run without an environment has no task
    parts = [
        f"{_HEAD}{subject}",
        f"`{file}` is a policy trained with AWAC (advantage-weighted actor-critic, Nair et al. 2020, arXiv 2006.09359) "
        f"on MindSpore: checkpoint {policy.episode} of the run `{folder.resolve().name}`. It maps observations to "
        "actions; the normaliser of the observations and the scaling of the actions are in it.",
        "## Use",
        f"```python\n{use.replace('FILE', file)}\n```",
        "`observation` is a float32 array (B, O) for any B. "
        f"On random observations the file differs from the checkpoint by {difference:.1e} at most.",
        "## Inputs and outputs",
        *_inputs(policy.network.normalizer, manifest.get("data", {}).get("observation_columns", [])),
        *_outputs(policy.space),
        "## Training",
        *_training(folder, manifest),
        "## Scores",
        *_scores(folder, policy.episode),
        "## Limits",
        _LIMITS.format(clip=CLIP),
        "## Versions",
        _table(("package", "trained with"), sorted(manifest.get("versions", {}).items())),
        f"Exported with awac {__version__}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def is_card(path: Path) -> bool:
    """Whether a file is a card that `text` made.

    Raises:
        OSError: it can't be read.
    """
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(_HEAD)) == _HEAD.encode()


def _inputs(normalizer: Normalizer, names: list[str]) -> list[str]:
    rows = [
        (f"{column} `{names[column]}`" if names else int(column), f"{mean:.6g}", f"{std:.6g}")
        for column, mean, std in zip(normalizer.columns, normalizer.mean, normalizer.std, strict=True)
    ]
    unused = "" if normalizer.size == normalizer.obs_size else f"; {normalizer.describe()}"
    return [
        f"Input `observation`: float32 (B, {normalizer.obs_size}), raw, each value in the unit in which the data set "
        f"and the environment give it{unused}. A Dict (by key), a Tuple or a matrix is flattened to them. "
        "In the data these values have:",
        _table(("value", "mean", "standard deviation"), rows),
    ]


def _outputs(space: spaces.Box | spaces.Discrete) -> list[str]:
    if isinstance(space, spaces.Discrete):
        first, last = int(space.start), int(space.start + space.n - 1)
        return [f"Output `action`: int64 (B,), the index of the most probable action, {first} to {last}."]
    rows = [(i, f"{low:.6g}", f"{high:.6g}") for i, (low, high) in enumerate(zip(space.low, space.high, strict=True))]
    return [
        f"Output `action`: float32 (B, {len(rows)}), in the environment's own units, clipped to its bounds:",
        _table(("value", "low", "high"), rows),
    ]


def _training(folder: Path, manifest: dict) -> list[str]:
    config, data, episode = manifest["config"], manifest.get("data"), manifest["episode"]
    train, task = config["train"], config["env"]["task"]
    where = f"Task `{task}`" if task else "No environment"
    steps = episode * train["n_steps_per_episode"]
    inherited = inherited_steps(folder, manifest)
    offline = min(steps, max(0, train["offline_train_steps"] - inherited))
    lines = [f"{where}; {offline} gradient steps on the data set alone, {steps - offline} online."]
    if inherited or "init_from" in manifest:
        source = manifest.get("init_from", "another run")
        lines.append(f"It started with the networks of {source}.")
    if data:
        lines.append(
            f"Data set `{data['dataset']}` ({data['kind']}), {data['rows']} rows; SHA-256 of the rows "
            f"`{data['sha256']}`."
        )
    else:
        lines.append(f"Data set `{config['env']['dataset'] or task}`; its fingerprint was not recorded.")
    recipe = {key: config[key] for key in ("env", "algo", "train")}
    lines.append(f"```yaml\n{yaml.safe_dump(recipe, sort_keys=False)}```")
    return lines


def _scores(folder: Path, episode: int) -> list[str]:
    rows = rows_by_episode(folder, "eval.csv")
    if not rows:
        return ["The folder holds no evaluations (`eval.csv`): the policy's performance is not known."]
    own = "" if episode in rows else f"There is no evaluation at episode {episode} itself. "
    last = [number for number in rows if number <= episode][-EVALUATIONS:]
    columns = ("episode", "phase", "mean_return", "std_return", "min_return", "falls", "normalized_score")
    table = _table(columns, [[rows[number].get(name) or "" for name in columns] for number in last])
    return [
        f"{own}The run's evaluations up to this checkpoint: undiscounted returns of whole episodes with the mode's "
        "actions; `falls` is the share of episodes that ended before the time limit.",
        table,
    ]


def _table(columns, rows) -> str:
    if not rows:
        return ""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)
