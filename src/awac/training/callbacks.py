"""What a run writes: log lines, CSV rows and checkpoints, one callback each.

The log lines "Episode N: …" and "Evaluate for episode N …" are an interface: never change them.
"""

from __future__ import annotations

from pathlib import Path

from awac.algorithm.mindrl import Callback
from awac.algorithm.step import METRICS
from awac.config import AlgoConfig
from awac.envs.tasks import Task, normalized_score
from awac.errors import CheckpointError
from awac.runs.tables import Table, last_row

RULE = "-----------------------------------------"
_ACTING = ("train_return", "optimistic")
_COUNTS = ("gradient_steps", "env_steps", *_ACTING)
TRAIN_COLUMNS = ("episode", "phase", *METRICS, "per_step_time_ms", *_COUNTS)
EVAL_COLUMNS = ("episode", "phase", "mean_return", "std_return", "min_return", "falls", "normalized_score", "env_steps")


class LossLog(Callback):
    """Log line every `every` episodes and after the last one; a row of train.csv for each.

    "Episode 0" is the first call of a run.
    """

    def __init__(self, folder: Path, every: int, after: int):
        super().__init__()
        self._path, self._every, self._after = folder / "train.csv", every, after

    def begin(self, params):
        """Opens the table; prints which lines of a resumed log come a second time: those of episodes not saved."""
        self._table = Table(self._path, TRAIN_COLUMNS, self._after)
        params.update(_last_figures(self._path.parent))
        first, last = self._after + 1, self._table.dropped
        if last >= first:
            lost = f"episode {first}" if last == first else f"episodes {first} to {last}"
            print(f"Training repeats {lost}, not saved before it stopped: lines above are written again", flush=True)

    def episode_end(self, params):
        """Writes the metrics of the episode that ended."""
        if params.cur_episode == 1:
            self._line(0, params.first)
        if params.cur_episode % self._every == 0 or params.cur_episode == params.episodes_num:
            self._line(params.cur_episode, params.metrics)
            self._details(params.metrics, params)
        row = {**params.metrics, "episode": params.cur_episode, "phase": params.phase}
        self._table.add({**row, **{key: params[key] for key in _COUNTS}})

    @staticmethod
    def _line(episode, m):
        print(
            f"Episode {episode}: critic_loss is {m['critic_loss']:.3f}, actor_loss is {m['actor_loss']:.3f}, "
            f"mean_std is {m['mean_std']:.3f}, per_step_time {m['per_step_time_ms']:.3f} ms",
            flush=True,
        )

    @staticmethod
    def _details(m, params):
        online = "" if params.train_return is None else f", return while acting {params.train_return:.1f}"
        online += f" ({params.optimistic:.0%} optimistic)" if params.optimistic else ""
        print(
            f"    {params.phase}: q_mean {m['q_mean']:.2f}, advantage {m['adv_mean']:.3f}, ESS/B {m['ess']:.3f}, "
            f"env steps {params.env_steps}{online}",
            flush=True,
        )


def _last_figures(folder: Path) -> dict:
    """What an episode's end gave, from the last row of a resumed run's table; loggers may still need it."""
    _, row = last_row(folder, "train.csv")
    metrics = {name: float(row[name]) for name in (*METRICS, "per_step_time_ms") if row.get(name)}
    return {"metrics": metrics, **{name: float(row[name]) if row.get(name) else None for name in _ACTING}}


class EvaluateLog(Callback):
    """Evaluates every `every` episodes, at the switch and after the last one; log lines and a row of eval.csv.

    Args:
        folder: of the run.
        every: so many episodes.
        manifest: of the checkpoint that the run is resumed from, or None.
        task: for the normalised score.
        switch: gradient steps of the offline phase, None if the run has none. One that starts at the switch is
            evaluated before its first episode.
    """

    def __init__(self, folder: Path, every: int, manifest: dict | None, task: Task, switch: int | None):
        super().__init__()
        self._path, self._every, self._manifest, self._task = folder / "eval.csv", every, manifest, task
        self._switch = switch

    def begin(self, params):
        """Opens the table; evaluates if it is due and there is no row.

        If the run had planned it, it was interrupted, and loggers lack the episode. Else they lack the evaluation only,
        so `params.metrics` becomes None.
        """
        self._table = Table(self._path, EVAL_COLUMNS, self._manifest["episode"] if self._manifest else 0)
        if self._is_due(params) and not self._table.has(params.cur_episode):
            self._evaluate(params)
            if not self._was_planned(params):
                params.metrics = None

    def _was_planned(self, params) -> bool:
        if self._manifest is None:
            return False
        planned = self._manifest.get("episodes", params.cur_episode)  # an earlier version did not note it
        every = self._manifest["config"]["train"].get("eval_every", 1)
        return params.cur_episode % every == 0 or params.cur_episode == planned or self._at_switch(params)

    def episode_end(self, params):
        """Evaluates the weights as they are after `cur_episode` episodes."""
        params.evaluation = None
        if self._is_due(params):
            self._evaluate(params)

    def _is_due(self, params) -> bool:
        number = params.cur_episode
        if self._at_switch(params) or number == params.episodes_num:
            return True
        return number > 0 and number % self._every == 0

    def _at_switch(self, params) -> bool:
        return params.gradient_steps == self._switch

    def _evaluate(self, params) -> None:
        params.evaluation = result = params.evaluate()
        score = normalized_score(self._task, result.mean)
        print(RULE)
        print(f"Evaluate for episode {params.cur_episode} total rewards is {result.mean:.3f}")
        print(RULE)
        print_details(result, score)
        self._table.add(
            {
                "episode": params.cur_episode,
                "phase": params.phase,
                "mean_return": result.mean,
                "std_return": float(result.returns.std()),
                "min_return": float(result.returns.min()),
                "falls": result.falls,
                "normalized_score": score,
                "env_steps": params.env_steps,
            }
        )


class NoEvaluation(Callback):
    """Takes the place of `EvaluateLog` in a run without an environment."""

    def episode_end(self, params):
        """Tells loggers that there is no evaluation."""
        params.evaluation = None


def weights_in_words(algo: AlgoConfig) -> str:
    """The advantage weights in words, with the unit of λ."""
    if algo.weighting == "uniform":
        return "uniform, behaviour cloning"
    unit = " TD errors" if algo.lam_unit == "td_error" else ""
    bounds = f", at most {algo.weight_clip:g}" if algo.weighting == "exp" else ""
    floor = f", at least {algo.weight_floor:g}" if algo.weight_floor else ""
    return f"{algo.weighting}, λ = {algo.lam:g}{unit}{floor}{bounds}"


def print_details(result, score, stochastic: bool = False) -> None:
    """Prints the normalised score, if the task has one, and the distribution of the returns."""
    episodes = f"{len(result.returns)} episode{'' if len(result.returns) == 1 else 's'}"
    actions = ", actions sampled" if stochastic else ""
    if score is not None:
        print(f"Normalised score is {score:.2f}")
    print(
        f"    {episodes}{actions}: {result.mean:.1f} ± {result.returns.std():.1f}, "
        f"lowest {result.returns.min():.1f}, terminated early {result.falls:.0%}",
        flush=True,
    )


class Checkpoints(Callback):
    """Saves every `every` episodes and after the last one; a failed save is a warning, the last one an error."""

    def __init__(self, every: int):
        super().__init__()
        self._every = every
        self._failed: CheckpointError | None = None

    def episode_end(self, params):
        """Saves the state after `cur_episode` episodes."""
        last = params.cur_episode == params.episodes_num
        if params.cur_episode % self._every and not last:
            return
        try:
            params.save()
        except CheckpointError as error:
            if last:
                self._failed = error
            else:
                print(f"Warning: {error}; training goes on, the last good checkpoint is kept", flush=True)

    def end(self, params):
        """Ends the run with the error of its last save, after its evaluation was written.

        Raises:
            CheckpointError: that error.
        """
        if self._failed:
            raise self._failed
