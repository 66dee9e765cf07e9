// What `settings` in __init__.py hands over: VERSION, an AlgoConfig, the networks' sizes and the number of threads.
#pragma once

namespace awac {

constexpr int kVersion = 4;  // VERSION in build.py

enum Weighting { kExp, kSoftmax, kUniform };

// In the order of `settings` in __init__.py.
struct Settings {
  float version, discrete, state_dependent_std, layer_norm, weighting, sum, critic_first, squash_mean, clamp_std,
      td_error;
  float obs, action, actor_depth, critic_depth;
  float gamma, tau, lam, weight_clip, weight_floor, reward_scale, log_std_min, log_std_max;
  float actor_lr, critic_lr, actor_weight_decay, average_rate, threads;
};

}  // namespace awac
