"""The trainer's state: copied at the end of a training episode, written to a checkpoint, taken up from one.

Between training episodes the networks, targets, optimiser moments, generators, counters and online rows are all there
is: online, each training episode begins with a fresh environment episode, so the simulator needs no copy.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mindspore import Tensor, ops

from awac.algorithm.policy import parameter_arrays
from awac.errors import CheckpointError
from awac.runs import checkpoint, tables
from awac.runs import files as storage


class Snapshot(NamedTuple):
    """A copy of the training state at the end of an episode; `inserted` counts online rows."""

    episode: int
    gradient_steps: int
    env_steps: int
    inserted: int
    policy: dict[str, np.ndarray]
    critics: dict[str, np.ndarray]
    arrays: dict[str, np.ndarray]


class TrainingState:
    """Copies, writes and restores the state of one trainer.

    Args:
        trainer: an AWACTrainer; its counters, generators, learner and replay are the state.
    """

    def __init__(self, trainer):
        self.trainer = trainer
        self.replay_log = checkpoint.ReplayLog(trainer.folder)
        self.saved: int | None = None
        self.rows_saved = 0

    def snapshot(self) -> Snapshot:
        """A copy of the state as it is."""
        t, learner = self.trainer, self.trainer.msrl.learner
        counters = (t.episode, t.gradient_steps, t.env_steps, t.replay.inserted)
        return Snapshot(
            *counters,
            policy=parameter_arrays(learner.deployed_actor),
            critics=parameter_arrays(learner.critic),
            arrays={
                **{f"parameter/{p.name}": p.asnumpy().copy() for p in learner.get_parameters()},
                **{f"rng/{name}": np.array(json.dumps(rng.bit_generator.state)) for name, rng in t.rngs.items()},
                "counters": np.array(counters, np.int64),
            },
        )

    def write(self, snapshot: Snapshot) -> None:
        """Writes a checkpoint.

        Raises:
            CheckpointError: the disk is full or the folder not writable; earlier checkpoints are untouched.
        """
        t, inserted = self.trainer, snapshot.inserted
        normalizer = {f"normalizer.{key}": value for key, value in t.normalizer.arrays().items()}
        networks = {
            "policy": {**snapshot.policy, **normalizer},
            "value_net_1": {key: value[0] for key, value in snapshot.critics.items()},
            "value_net_2": {key: value[1] for key, value in snapshot.critics.items()},
        }
        self.replay_log.append(t.replay, self.rows_saved, inserted)
        try:
            tables.keep_copies(t.folder)
        except OSError as error:
            reason = storage.first_line(error)
            raise CheckpointError(f"the tables could not be copied to {t.folder} ({reason})") from error
        about = {
            "config": dataclasses.asdict(t.config),
            "spaces": t.spaces,
            "inserted": inserted,
            "replay": self.replay_log.needed(inserted, min(inserted, t.replay.online_capacity)),
        }
        keep = t.config.train.max_checkpoints
        checkpoint.save(t.folder, snapshot.episode, networks, snapshot.arrays, about, keep)
        self.saved, self.rows_saved = snapshot.episode, inserted
        self.replay_log.forget(checkpoint.oldest_insertion(t.folder) - t.replay.online_capacity)

    def keep(self, boundary: Snapshot) -> str:
        """Writes the state of an episode's end after the next one was broken off; says what is kept."""
        t = self.trainer
        again = (
            f"--resume continues from it and takes the {t.gradient_steps - boundary.gradient_steps} steps since again"
        )
        if self.saved == boundary.episode:
            return f"checkpoint {boundary.episode} is kept; {again}"
        if boundary.episode == 0:
            return "no training episode was complete, so nothing is kept; --resume starts from the beginning"
        if t.replay.inserted - self.rows_saved > t.replay.online_capacity:
            return "the last checkpoint is kept (online rows since then are overwritten); --resume continues from it"
        try:
            self.write(boundary)
        except CheckpointError as error:
            return f"{error}; the last checkpoint is kept, --resume continues from it"
        return f"checkpoint {boundary.episode} saved, the end of the last whole training episode; {again}"

    def restore(self, episode: int) -> None:
        """Takes up a checkpoint of the trainer's own folder exactly.

        Raises:
            CheckpointError: it doesn't fit this run, or online rows are missing.
        """
        t, source = self.trainer, f"checkpoint {episode} in {self.trainer.folder}"
        arrays = checkpoint.load_state(t.folder, episode)
        self._load_learner(arrays, source)
        try:
            for name, rng in t.rngs.items():
                rng.bit_generator.state = json.loads(str(arrays[f"rng/{name}"]))
            t.episode, t.gradient_steps, t.env_steps, inserted = (int(n) for n in arrays["counters"])
            if min(t.episode, t.gradient_steps, t.env_steps, inserted) < 0:
                raise ValueError("negative counters")
        except storage.READ_ERRORS as error:
            raise CheckpointError(f"{source} doesn't fit this run ({storage.first_line(error)})") from error
        capacity = t.replay.online_capacity
        table = self.replay_log.load(inserted, min(inserted, capacity), t.replay.width)
        t.replay.restore({"rows": table, "inserted": np.array(inserted), "capacity": np.array(capacity)})
        t.reward_max = t.replay.largest_reward()
        self.rows_saved, self.saved = inserted, t.episode
        print(f"Resume after episode {t.episode}", flush=True)

    def start_from(self, folder: Path, manifest: dict) -> None:
        """Begins a new run with another one's learner: networks, targets, optimiser moments.

        Counters, generators and online rows are this run's own. The offline phase goes on where the source stood in
        its own; a source that has finished it starts this run at the switch.

        Raises:
            CheckpointError: the source was made for other sizes.
        """
        t, source = self.trainer, f"checkpoint {manifest['episode']} in {folder}"
        arrays = checkpoint.load_state(folder, manifest["episode"])
        self._load_learner(arrays, source)
        try:
            steps = int(arrays["counters"][1])
            finished = steps >= int(manifest["config"]["train"]["offline_train_steps"])
        except storage.READ_ERRORS as error:
            raise CheckpointError(f"{source} is damaged ({storage.first_line(error)})") from error
        offline = t.config.train.offline_train_steps
        t.gradient_steps = offline if finished else min(steps, offline)
        print(f"Start from {source}, made by {steps} gradient steps", flush=True)
        self.write(self.snapshot())

    def _load_learner(self, arrays: dict[str, np.ndarray], source: str) -> None:
        parameters = self.trainer.msrl.learner.get_parameters()
        try:
            pairs = [(p, arrays[f"parameter/{p.name}"]) for p in parameters]
            for parameter, value in pairs:
                if value.shape != parameter.shape or value.dtype != np.float32:
                    raise ValueError(f"{parameter.name} has shape {parameter.shape}, the file holds {value.shape}")
        except (KeyError, ValueError) as error:
            raise CheckpointError(f"{source} doesn't fit this run ({error})") from error
        for parameter, value in pairs:
            ops.assign(parameter, Tensor(value))  # not set_data: it leaves a compiled graph with freed memory
