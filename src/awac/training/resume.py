"""The facts about a run in its manifest, and which of them must not change when it is resumed."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import gymnasium
import numpy as np

from awac.config import SECTIONS, Config
from awac.data.normalizer import Normalizer
from awac.data.transitions import Transitions
from awac.errors import CheckpointError, ConfigError
from awac.runs import checkpoint, ckpt_file
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


def fingerprint(data: Transitions) -> str:
    """SHA-256 of the rows, whatever file they came from."""
    digest = hashlib.sha256()
    for field in dataclasses.fields(data):
        values = getattr(data, field.name)
        digest.update(f"{field.name} {values.dtype.str} {values.shape}".encode())
        digest.update(np.ascontiguousarray(values).data.cast("B"))
    return digest.hexdigest()


def about(config: Config, spaces: dict, data: Transitions, origin, actions: gymnasium.Space) -> dict:
    """The facts that the manifest of a training run holds; `actions` is the environment's own action space."""
    bounds: dict = {}
    if isinstance(actions, gymnasium.spaces.Box):
        bounds = {"action_bounds": [actions.low.ravel().tolist(), actions.high.ravel().tolist()]}
    elif isinstance(actions, gymnasium.spaces.Discrete) and actions.start:
        bounds = {"action_start": int(actions.start)}
    facts = {"sha256": fingerprint(data), "kind": origin.kind, "dataset": origin.dataset, "rows": len(data)}
    facts["mean_return"] = origin.mean_return
    return {"config": dataclasses.asdict(config), "spaces": spaces, "data": facts, "versions": versions(), **bounds}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a run's numbers."""
    packages = {"python": platform.python_version()}
    for name in ("awac", "mindspore", "mindspore-rl", "numpy", "gymnasium", "mujoco"):
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
    arrays = ckpt_file.read(folder / NETWORKS["policy"].format(manifest["episode"]))
    return Normalizer.from_arrays({k[11:]: v for k, v in arrays.items() if k.startswith("normalizer.")})


def stored_config(folder: Path) -> Config | None:
    """The configuration of a run that can be resumed, or None if it has no checkpoint yet.

    Raises:
        CheckpointError: it has checkpoints, but none that is sound.
    """
    if not folder.is_dir() or not checkpoint.episodes(folder):
        return None
    return read_about(folder, _newest(folder, warn=lambda _: None))[0]


def manifest_to_resume(folder: Path, config: Config) -> dict:
    """The newest sound checkpoint, if a run with this configuration can be resumed from it.

    Raises:
        CheckpointError: there is none, or a setting that changes the result differs.
    """
    manifest = _newest(folder, warn=print)
    stored, _ = read_about(folder, manifest)
    for section in SECTIONS:
        was, now = getattr(stored, section), getattr(config, section)
        for field in dataclasses.fields(was):
            before, after = getattr(was, field.name), getattr(now, field.name)
            if field.name == "offline_train_steps" and config.env.no_env:
                continue  # there is only the offline phase, which may be extended
            if before != after and field.name not in FREE:
                raise CheckpointError(
                    f"{folder} was trained with {field.name} = {before!r}, this command says {after!r}; --resume "
                    f"continues with the same configuration, leave the setting out"
                )
    return manifest


def same_bounds(source: tuple[Path, dict], facts: dict) -> None:
    """Refuses to start from a run whose actions have another unit.

    Raises:
        CheckpointError: its actions in [-1, 1] stand for other bounds than those in `facts` of the new run.
    """
    before, now = (part.get("action_bounds") for part in (source[1], facts))
    if before and now and np.shape(before) == np.shape(now) and not np.allclose(before, now, rtol=1e-6):
        raise CheckpointError(
            f"{source[0]} was trained on actions from {before[0]} to {before[1]}, here they go from {now[0]} to "
            f"{now[1]}; under no_env, action_low and action_high set them"
        )


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
        return checkpoint.newest(folder, need_state=True, warn=warn)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; --overwrite starts over") from None
