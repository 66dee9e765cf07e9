"""A policy as one file of another library's format, compared with the checkpoint before it is kept."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from gymnasium import spaces

from awac import __version__
from awac.data.normalizer import Normalizer
from awac.errors import ExportError, first_line
from awac.runs import files
from awac.runs.deployed import DeployedPolicy, load_policy
from awac.runs.export import card, formats
from awac.runs.export.network import Network

TOLERANCE = 1e-5
"""Largest difference between the file's actions and the checkpoint's, as a share of an action's bounds."""
ROWS = 1024
"""Random observations for the comparison."""


def export_policy(folder: Path, name: str, out: Path | None = None, episode: int | None = None) -> list[str]:
    """Writes a checkpoint's policy in a format, with a model card beside it.

    The file maps raw observations (B, O) to the mode's actions in the environment's units, for any B. It is compared
    with `load_policy` before it is moved into place; a file that differs is not kept.

    Args:
        folder: a run's checkpoint folder, or one that `awac export --out` wrote.
        name: one of `formats.names()`.
        out: the file, with the format's suffix; None for `export/policy_N` in the folder.
        episode: a certain checkpoint, or None for the newest.

    Returns:
        Lines that say what was written and how far it differs.

    Raises:
        ConfigError: an unknown format, or its package is missing.
        CheckpointError: no sound checkpoint.
        ExportError: the file can't be written, differs by more than TOLERANCE, or `out` is a file that no earlier
            export wrote.
    """
    module = formats.get(name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        policy = load_policy(str(folder), episode)
    own = folder / "export" / f"policy_{policy.episode}.{name}"
    out = out or own
    if out.suffix != f".{name}":
        raise ExportError(f"{out}: the name of a file of format {name} ends in .{name}")
    if out.is_dir():
        raise ExportError(f"{out} is a folder; --out takes the name of a file")
    beside = out.with_name(out.name + ".md")
    if out != own:
        _refuse_others(out, beside)
    about = {"task": policy.task, "episode": str(policy.episode), "awac": __version__}
    measured: dict[str, float] = {}

    def fill(temp: Path) -> None:
        module.write(temp, Network.of(policy), about)
        measured["difference"] = difference(policy, module.load(temp))
        if not measured["difference"] <= TOLERANCE:
            raise ExportError(
                f"{out} was not kept: its actions differ from the checkpoint's by {measured['difference']:.1e}, "
                f"more than {TOLERANCE:.0e}"
            )
        text = card.text(folder, policy, out.name, module.USE, measured["difference"])
        # First, since it tells what is an export's.
        files.write_text(beside, text)

    try:
        files.write(out, fill)
    except OSError as error:
        raise ExportError(f"{error.filename or out} could not be written ({error.strerror or error})") from error
    except (RuntimeError, ValueError) as error:  # of the format's library
        raise ExportError(f"{out} could not be written ({first_line(error)})") from error
    unit = "of the logits" if isinstance(policy.space, spaces.Discrete) else "of the action's bounds"
    return [
        *(f"Warning: {item.message}" for item in caught if item.category is UserWarning),
        f"Checkpoint {policy.episode} of {folder} exported to {out}; its model card is {beside.name}",
        f"Largest difference from the checkpoint's policy on {ROWS} random observations is "
        f"{measured['difference']:.1e} {unit}",
    ]


def _refuse_others(out: Path, beside: Path) -> None:
    """Refuses to replace a file or a card that no earlier export wrote, as its card tells; an empty file is nobody's.

    Raises:
        ExportError: one of them exists, and the card is not one of `card.text`.
    """
    try:
        ours = card.is_card(beside)
        found = next((path for path in (out, beside) if path.exists() and path.stat().st_size), None)
    except OSError as error:
        raise ExportError(f"{error.filename or out} could not be read ({error.strerror or error})") from error
    if found and not ours:
        raise ExportError(f"{found}: exists already, not with an export's card; remove it or name another file")


def difference(policy: DeployedPolicy, act, rows: int = ROWS, seed: int = 0) -> float:
    """How far a function's actions are from the policy's, on observations distributed like the data's.

    Args:
        policy: from `load_policy`.
        act: maps raw observations (B, O) float32 to actions.
        rows: number of observations; they are given as batches of 1, 7 and the rest.
        seed: of the observations.

    Returns:
        Continuous actions: the largest |difference| / max(|low|, |high|). Discrete ones: the largest gap between the
            best logit and the chosen action's, relative to the logits' size if that is above 1; ties that rounding
            decides count as equal.

    Raises:
        ExportError: the actions have another shape or are outside the bounds.
    """
    observations = sample_observations(policy.network.normalizer, rows, seed)
    batches = np.split(observations, [1, 8])
    expected = policy(observations)
    try:
        actions = np.concatenate([np.asarray(act(batch)) for batch in batches])
    except files.READ_ERRORS as error:
        raise ExportError(f"the exported file can't be run ({first_line(error)})") from error
    if actions.shape != expected.shape:
        raise ExportError(f"the exported file gives actions of shape {actions.shape}, the checkpoint {expected.shape}")
    if isinstance(policy.space, spaces.Box):
        low, high = policy.space.low, policy.space.high
        if (actions < low).any() or (actions > high).any():
            raise ExportError("the exported file gives actions outside the environment's bounds")
        size = np.maximum(np.abs(low), np.abs(high))
        return float((np.abs(actions - expected) / np.where(size > 0, size, 1.0)).max())
    chosen = actions.astype(np.int64) - int(policy.space.start)
    logits = policy.network.outputs(observations)
    if (chosen < 0).any() or (chosen >= logits.shape[1]).any():
        raise ExportError("the exported file gives an action that the environment does not have")
    lost = logits.max(-1) - np.take_along_axis(logits, chosen[:, None], -1)[:, 0]
    return float((lost / np.maximum(np.abs(logits).max(-1), 1.0)).max())


def sample_observations(normalizer: Normalizer, rows: int, seed: int = 0) -> np.ndarray:
    """(rows, O) float32: half normal like the data, half uniform over ±3 std, a few beyond the clip.

    Columns that were constant in the data, which the policy does not see, are noise.
    """
    rng, size = np.random.default_rng(seed), normalizer.size
    half = rows // 2
    far = max(1, half // 16)
    normalised = np.concatenate(
        [
            rng.standard_normal((half, size)),
            rng.uniform(-3.0, 3.0, (rows - half - far, size)),
            rng.uniform(-12.0, 12.0, (far, size)),
        ]
    )
    observations = rng.standard_normal((rows, normalizer.obs_size))
    rest = 0.0 if normalizer.mean_rest is None else normalizer.mean_rest
    observations[:, normalizer.columns] = normalizer.mean.astype(np.float64) + rest + normalizer.std * normalised
    return rng.permutation(observations).astype(np.float32)
