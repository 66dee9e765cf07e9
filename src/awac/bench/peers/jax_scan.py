"""JAX as jaxrl and JAX-CORL write it: pure functions, optax, one jit with a scan over the steps."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import libraries
import numpy as np
import optax
from worker import epsilon, serve

STEPS = 50


def mlp(params, x, norm=False):
    """Fully connected ReLU network; params is a list of (weight, bias)."""
    for weight, bias in params[:-1]:
        x = x @ weight + bias
        if norm:
            mean = x.mean(-1, keepdims=True)
            x = (x - mean) * jax.lax.rsqrt(jnp.square(x - mean).mean(-1, keepdims=True) + 1e-5)
        x = jax.nn.relu(x)
    weight, bias = params[-1]
    return x @ weight + bias


class Jax:
    """The data set lies in device arrays; each step of the scan gathers its batch and draws its noise."""

    def __init__(self, settings, weights, rows):
        self.s, self.weights = settings, weights
        self.data = {key: jnp.asarray(value) for key, value in rows.items()}
        self.state, self.key = self.reset(), jax.random.key(0)
        self.scan_given = jax.jit(lambda state, xs: jax.lax.scan(lambda c, x: self.update(c, *x), state, xs))

    def reset(self):
        def layers(name, pick=None):
            depth = sum(key.startswith(f"{name}.") and key.endswith(".weight") for key in self.weights)
            pairs = [(self.weights[f"{name}.{i}.weight"], self.weights[f"{name}.{i}.bias"]) for i in range(depth)]
            return [(jnp.array(w if pick is None else w[pick]), jnp.array(b if pick is None else b[pick]))
                    for w, b in pairs]  # fmt: skip

        actor = {"net": layers("policy")}
        if "policy.log_std" in self.weights:
            actor["log_std"] = jnp.array(self.weights["policy.log_std"])
        critics = [layers("value", i) for i in range(2)]
        copied = partial(jax.tree.map, jnp.copy)
        return {"actor": actor, "average": copied(actor), "critics": critics, "targets": copied(critics),
                "steps": jnp.zeros((), jnp.int32),
                "actor_adam": self.adam("actor").init(actor),
                "critic_adam": self.adam("critic").init(critics)}  # fmt: skip

    def adam(self, name, eps=1e-8):
        decay = self.s.get(f"{name}_weight_decay", 0.0)
        adam = optax.adam(self.s[f"{name}_lr"], eps=eps)
        return optax.chain(optax.add_decayed_weights(decay), adam) if decay > 0 else adam

    def policy(self, actor, obs):
        s, out = self.s, mlp(actor["net"], obs)
        if s["discrete"]:
            return jax.nn.log_softmax(out)
        mean, raw = jnp.split(out, 2, -1) if s["state_dependent_std"] else (out, actor["log_std"])
        return jnp.tanh(mean), s["log_std_min"] + (s["log_std_max"] - s["log_std_min"]) * jax.nn.sigmoid(raw)

    def q(self, critic, obs, action):
        norm = self.s["critic_layer_norm"]
        if self.s["discrete"]:
            index = action.astype(jnp.int32)
            return jnp.take_along_axis(mlp(critic, obs, norm), index, 1)[:, 0]
        return mlp(critic, jnp.concatenate([obs, action], -1), norm)[:, 0]

    def value(self, dist, critics, obs, noise):
        if self.s["discrete"]:
            lower = jnp.minimum(*(mlp(critic, obs, self.s["critic_layer_norm"]) for critic in critics))
            return (jnp.exp(dist) * lower).sum(-1)
        action = jnp.clip(dist[0] + jnp.exp(dist[1]) * noise, -1.0, 1.0)
        return jnp.minimum(*(self.q(critic, obs, action) for critic in critics))

    def update(self, state, batch, noise, eps=1e-8):
        s, obs, action = self.s, batch["obs"], batch["action"]
        value = self.value(
            self.policy(state["actor"], batch["next_obs"]), state["targets"], batch["next_obs"], noise[0]
        )
        target = batch["reward"] * s["reward_scale"] + s["gamma"] * (1.0 - batch["terminated"]) * value

        def critic_loss(critics):
            return sum(jnp.square(self.q(critic, obs, action) - target).mean() for critic in critics)

        def actor_loss(actor):
            dist = self.policy(actor, obs)
            q = jnp.stack([self.q(c, obs, action) for c in state["critics"]])
            adv = jax.lax.stop_gradient(q.min(0) - self.value(dist, state["critics"], obs, noise[1]))
            lam = s["lam"] * (jnp.sqrt(jnp.square(q - target).mean()) if s["lam_unit"] == "td_error" else 1.0)
            if s["weighting"] == "softmax":
                weights = jax.nn.softmax(adv / lam) * len(adv)
            else:
                weights = jnp.minimum(jnp.exp(adv / lam), s["weight_clip"])
            weights = jnp.maximum(weights, s["weight_floor"])
            if s["discrete"]:
                log_prob = jnp.take_along_axis(dist, action.astype(jnp.int32), 1)[:, 0]
            else:
                z = (action - dist[0]) * jnp.exp(-dist[1])
                log_prob = (-0.5 * jnp.square(z) - dist[1] - 0.5 * jnp.log(2 * jnp.pi)).sum(-1)
            loss = -log_prob * weights
            return loss.mean() if s["loss_reduction"] == "mean" else loss.sum()

        losses, new = {}, {}
        for name, loss, slot in (("critics", critic_loss, "critic"), ("actor", actor_loss, "actor")):
            losses[name], gradients = jax.value_and_grad(loss)(state[name])
            adam, adam_state = self.adam(slot, eps), f"{slot}_adam"
            updates, new[adam_state] = adam.update(gradients, state[adam_state], state[name])
            new[name] = optax.apply_updates(state[name], updates)
        new["targets"] = optax.incremental_update(new["critics"], state["targets"], s["tau"])
        new["average"], new["steps"], rate = state["average"], state["steps"] + 1, 1.0 - s["actor_ema"]
        if rate < 1.0:
            rate = -rate / jnp.expm1(new["steps"] * math.log1p(-rate))
            new["average"] = optax.incremental_update(new["actor"], state["average"], rate)
        return new, losses

    @partial(jax.jit, static_argnums=0, donate_argnums=1)
    def scan(self, state, key, data):
        def step(carry, _):
            state, key = carry
            key, for_rows, for_noise = jax.random.split(key, 3)
            size = self.s["batch_size"]
            index = jax.random.randint(for_rows, (size,), 0, len(data["obs"]))
            batch = {name: value[index] for name, value in data.items()}
            state, losses = self.update(state, batch, jax.random.normal(for_noise, (2, size, self.s["action_size"])))
            return (state, key), losses

        return jax.lax.scan(step, (state, key), None, STEPS)

    def check(self, batches, noise):
        eps = jnp.array([epsilon(k + 1) for k in range(len(noise))])
        state, losses = self.scan_given(self.reset(), ({k: jnp.asarray(v) for k, v in batches.items()}, noise, eps))
        found = {"critic_loss": losses["critics"].mean(), "actor_loss": losses["actor"].mean()}
        for name, source in (("policy", state["actor"]), ("average", state["average"])):
            for i, (weight, bias) in enumerate(source["net"]):
                found |= {f"{name}.{i}.weight": weight, f"{name}.{i}.bias": bias}
            if "log_std" in source:
                found[f"{name}.log_std"] = source["log_std"]
        for name, twins in (("value", state["critics"]), ("target", state["targets"])):
            for i, pair in enumerate(zip(*twins, strict=True)):
                weights, biases = zip(*pair, strict=True)
                found |= {f"{name}.{i}.weight": np.stack(weights), f"{name}.{i}.bias": np.stack(biases)}
        return found

    def run(self):
        (self.state, self.key), losses = self.scan(self.state, self.key, self.data)
        jax.block_until_ready(losses)
        return STEPS

    def about(self):
        return libraries.jax_isa(), libraries.processors()


if __name__ == "__main__":
    serve(Jax)
