"""The facts about a run in its manifest, and which of them must not change when it is resumed."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
from collections.abc import Collection
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import gymnasium
import numpy as np

from awac import __version__
from awac.config import SECTIONS, AlgoConfig, Config
from awac.data.normalizer import Normalizer
from awac.data.sources.table_names import inner_words
from awac.data.transitions import Transitions
from awac.envs.actions import environment_action_space
from awac.errors import CheckpointError, ConfigError
from awac.runs import checkpoint, ckpt_file
from awac.runs import folder as run_folder
from awac.runs.folder import NETWORKS

FREE = {
    "dataset",
    "download",
    "eval_episodes",
    "log_every",
    "eval_every",
    "save_every",
    "max_checkpoints",
}
"""Settings that don't change what is learnt, so a resumed run may change them. The data are compared row by row."""

_RESUMED = "--resume continues with the same configuration, leave the setting out"
_FUNCTION = ("critic_layer_norm", "squash_mean", "log_std_bound", "log_std_min", "log_std_max")
"""Settings that change what the same weights compute."""
_VALUES = ("gamma", "reward_scale")
"""Settings that change what the critics' values mean."""


def fingerprint(data: Transitions) -> str:
    """SHA-256 of the rows, whatever file they came from."""
    digest = hashlib.sha256()
    for field in dataclasses.fields(data):
        values = getattr(data, field.name)
        digest.update(f"{field.name} {values.dtype.str} {values.shape}".encode())
        digest.update(np.ascontiguousarray(values).data.cast("B"))
    return digest.hexdigest()


def about(config: Config, spaces: dict, data: Transitions, origin, env: gymnasium.Env) -> dict:
    """The facts that the manifest of a training run holds.

    Args:
        config: the run.
        spaces: of `network_spaces`.
        data: the rows.
        origin: where they come from.
        env: of `make_env`, or its stand-in.
    """
    rows = {"sha256": fingerprint(data), "kind": origin.kind, "dataset": origin.dataset, "rows": len(data)}
    columns = {"observation_columns": list(origin.columns)} if origin.columns else {}
    return {
        "config": dataclasses.asdict(config),
        "spaces": spaces,
        "data": {**rows, "mean_return": origin.mean_return, **columns},
        "episode_limit": env.spec.max_episode_steps if env.spec else None,
        "versions": versions(),
        **action_facts(env),
    }


def action_facts(env: gymnasium.Env) -> dict:
    """The bounds of an environment's own actions, or the first index if it is not 0."""
    actions = environment_action_space(env)
    if isinstance(actions, gymnasium.spaces.Box):
        return {"action_bounds": [actions.low.ravel().tolist(), actions.high.ravel().tolist()]}
    start = int(getattr(actions, "start", 0))  # of a Discrete, the only other kind
    return {"action_start": start} if start else {}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a run's numbers."""
    packages = {"python": platform.python_version(), "awac": __version__}  # pip's note of an editable install is old
    for name in ("mindspore", "mindspore-rl", "numpy", "gymnasium", "mujoco"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "unknown"
    return packages


def read_about(folder: Path, manifest: dict) -> tuple[Config, dict]:
    """Configuration and spaces of a checkpoint.

    Raises:
        CheckpointError: they are missing or damaged.
    """
    try:
        return Config.from_dict(manifest["config"]), dict(manifest["spaces"])
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise CheckpointError(f"{folder}: checkpoint {manifest['episode']} has no usable config ({error})") from error


def stored_normalizer(folder: Path, manifest: dict) -> Normalizer:
    """The normaliser that a checkpoint's policy was trained with."""
    return Normalizer.from_policy(ckpt_file.read(folder / NETWORKS["policy"].format(manifest["episode"])))


def stored_run(folder: Path) -> tuple[Config | None, int | None]:
    """The configuration of the run in a folder, and how many training episodes it was to have in all.

    Each is None if there is no run, or an older version's that did not note it.

    Raises:
        CheckpointError: it has checkpoints, but none that is sound; or its note of them is damaged.
    """
    if not folder.is_dir():
        return None, None
    marker = run_folder.marker(folder)
    config, count = marker.get("config"), marker.get("episodes")
    if checkpoint.episodes(folder):
        manifest = _newest(folder, warn=lambda _: None)
        after = marker.get("noted_after")  # a run that was resumed and has not come to its next checkpoint
        if not (isinstance(after, int) and after >= manifest["episode"]):
            return read_about(folder, manifest)[0], _positive(manifest.get("episodes"))
    try:
        return (None if config is None else Config.from_dict(config)), _positive(count)
    except (TypeError, ValueError, AttributeError, ConfigError) as error:
        raise CheckpointError(f"{folder / run_folder.MARKER} is damaged ({error}); --overwrite starts over") from error


def _positive(count) -> int | None:
    return count if isinstance(count, int) and count > 0 else None


def manifest_to_resume(folder: Path, config: Config, free: Collection[str] = FREE, hint: str = _RESUMED) -> dict:
    """The newest sound checkpoint, if a run with this configuration can be resumed from it.

    Args:
        folder: of the run.
        config: the settings now.
        free: those that may be others than the run's.
        hint: what to do if one of the rest is.

    Raises:
        CheckpointError: there is none, or a setting that changes the result differs.
    """
    manifest = _newest(folder, warn=print)
    same_settings(folder, read_about(folder, manifest)[0], config, free, hint)
    return manifest


def same_settings(
    folder: Path, stored: Config, config: Config, free: Collection[str] = FREE, hint: str = _RESUMED
) -> None:
    """Refuses to resume a run with other settings; the arguments are those of `manifest_to_resume`.

    Raises:
        CheckpointError: a setting that changes the result differs.
    """
    for section in SECTIONS:
        was, now = getattr(stored, section), getattr(config, section)
        for field in dataclasses.fields(was):
            before, after = getattr(was, field.name), getattr(now, field.name)
            if field.name == "offline_train_steps" and config.env.no_env:
                continue  # there is only the offline phase, which may be extended
            if before != after and field.name not in free:
                raise CheckpointError(
                    f"{folder} was trained with {field.name} = {before!r}, this command says {after!r}; {hint}"
                )


def same_interface(folder: Path, manifest: dict, facts: dict) -> None:
    """Refuses a checkpoint whose actions have another unit than those here, or its observations another order.

    Args:
        folder: of the checkpoint's run.
        manifest: of the checkpoint.
        facts: `about` of the run here, or `action_facts` of its environment.

    Raises:
        CheckpointError: its actions in [-1, 1] stand for other bounds, its indices start elsewhere, or the tables that
            the two runs are trained on name other observation columns.
    """
    there, here = (noted.get("data", {}).get("observation_columns") for noted in (manifest, facts))
    if there and here and inner_words(there) != inner_words(here):
        raise CheckpointError(
            f"{folder} was trained on observation columns {', '.join(there)}, here they are {', '.join(here)}; give "
            "the table those names, in that order"
        )
    before, now = manifest.get("action_bounds"), facts.get("action_bounds")
    if before and now and np.shape(before) == np.shape(now) and not np.allclose(before, now, rtol=1e-6):
        hint = "; action_low and action_high set them" if manifest["config"]["env"]["no_env"] else ""
        raise CheckpointError(
            f"{folder} was trained on actions from {before[0]} to {before[1]}, here they go from {now[0]} to "
            f"{now[1]}{hint}"
        )
    if not now and not before and (old := manifest.get("action_start", 0)) != (new := facts.get("action_start", 0)):
        raise CheckpointError(f"{folder} was trained on actions that count from {old}, here they count from {new}")


def same_networks(source: Path, manifest: dict, algo: AlgoConfig, discrete: bool) -> None:
    """Checks that the weights of another run compute here what they computed there; prints what differs in meaning.

    Raises:
        CheckpointError: a setting makes another function of them.
    """
    before = read_about(source, manifest)[0].algo
    for name in (_FUNCTION[:1] if discrete else _FUNCTION) + _VALUES:
        was, now = getattr(before, name), getattr(algo, name)
        if was == now:
            continue
        if name in _FUNCTION:
            raise CheckpointError(
                f"{source} was trained with {name} = {was!r}, this command says {now!r}: the same weights would be "
                f"another function; set {name} to {was!r}"
            )
        print(f"{name} is {now!r}, it was {was!r} in {source}: its critics are on another scale", flush=True)


def check_data(folder: Path, manifest: dict, data: Transitions, origin) -> None:
    """Compares the rows with those that the run was trained on.

    Raises:
        CheckpointError: they differ.
    """
    stored = manifest.get("data")
    if not isinstance(stored, dict) or "sha256" not in stored:
        print(f"{folder} is from a version that did not record its data, so they can't be compared", flush=True)
    elif stored["sha256"] != fingerprint(data):
        raise CheckpointError(
            f"the rows of {origin.path} are not those that {folder} was trained on ({stored.get('rows')} rows of "
            f"{stored.get('dataset')}, {stored.get('kind')}; now {len(data)}, {origin.kind}): give the same data with "
            f"--dataset, or start a new run (--init_from {folder} keeps what was learnt)"
        )


def _newest(folder: Path, warn) -> dict:
    try:
        return checkpoint.newest(folder, need_state=True, need_rows=True, warn=warn)
    except CheckpointError as error:
        raise type(error)(f"{error}; --overwrite starts over") from None
