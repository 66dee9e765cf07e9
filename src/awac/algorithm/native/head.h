// What a policy's outputs mean, as in heads.py and policy.py: actions, log-probability and its gradient, for one row.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "settings.h"

namespace awac {

constexpr float kLogRoot2Pi = 0.9189385332046727f;

inline float clamp(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

struct Head {
  const Settings &s;
  int64_t size;  // of an action, or the number of actions
  const float *free_std;  // before its bounds; null where the network gives it

  float mean(const float *out, int64_t j) const { return s.squash_mean > 0 ? std::tanh(out[j]) : out[j]; }

  float raw_std(const float *out, int64_t j) const { return free_std ? free_std[j] : out[size + j]; }

  static float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

  float log_std(float raw) const {
    if (s.clamp_std > 0) return clamp(raw, s.log_std_min, s.log_std_max);
    return s.log_std_min + (s.log_std_max - s.log_std_min) * sigmoid(raw);
  }

  // d log-std / d raw.
  float log_std_slope(float raw) const {
    if (s.clamp_std > 0) return raw >= s.log_std_min && raw <= s.log_std_max ? 1.0f : 0.0f;
    const float half = sigmoid(raw);
    return (s.log_std_max - s.log_std_min) * half * (1.0f - half);
  }

  void sample(const float *out, const float *noise, float *action) const {
    for (int64_t j = 0; j < size; ++j)
      action[j] = clamp(mean(out, j) + std::exp(log_std(raw_std(out, j))) * noise[j], -1.0f, 1.0f);
  }

  float log_sum_exp(const float *logits) const {
    const float top = *std::max_element(logits, logits + size);
    float sum = 0.0f;
    for (int64_t j = 0; j < size; ++j) sum += std::exp(logits[j] - top);
    return top + std::log(sum);
  }

  // −share·log π of an index (none: −1) by the outputs; returns the log-probability, and √Σπ(1−π) in `std`.
  float categorical(const float *logits, int64_t taken, float share, float *by_out, float *std) const {
    const float log_sum = log_sum_exp(logits);
    float variance = 0.0f;
    for (int64_t j = 0; j < size; ++j) {
      const float prob = std::exp(logits[j] - log_sum);
      variance += prob * (1.0f - prob);
      by_out[j] = taken < 0 ? 0.0f : share * (prob - (j == taken));
    }
    *std = std::sqrt(variance);
    return taken < 0 ? 0.0f : logits[taken] - log_sum;
  }

  // −share·log π of an action by the outputs and by the raw log-std; returns log π, and the mean std in `std`.
  float gaussian(const float *out, const float *action, float share, float *by_out, float *by_raw, float *std) const {
    float log_prob = *std = 0.0f;
    for (int64_t j = 0; j < size; ++j) {
      const float mu = mean(out, j), raw = raw_std(out, j), log = log_std(raw), sigma = std::exp(log);
      const float z = (action[j] - mu) / sigma;
      log_prob -= 0.5f * z * z + log + kLogRoot2Pi;
      *std += sigma / size;
      by_out[j] = -share * z / sigma * (s.squash_mean > 0 ? 1.0f - mu * mu : 1.0f);
      by_raw[j] = -share * (z * z - 1.0f) * log_std_slope(raw);
    }
    return log_prob;
  }
};

}  // namespace awac
