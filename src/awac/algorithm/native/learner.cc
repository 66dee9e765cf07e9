// K gradient steps of AWACLearner as one MindSpore custom operator. `learner.py` is the same step in MindSpore and is
// what to read first: there a step has some hundred kernels, and launching them takes longer than what they compute.
//
// Work is cut into units that don't depend on the number of threads, so the results don't either.

#include <array>

#include "mlp.h"
#include "pool.h"

namespace awac {

constexpr int64_t kRows = 64;  // of a batch or of a weight, in one unit of work
constexpr float kLogRoot2Pi = 0.9189385332046727f;

constexpr int kVersion = 2;  // VERSION in build.py

// In the order of `settings` in __init__.py.
struct Settings {
  float version, discrete, state_dependent_std, layer_norm, softmax, sum, obs, action, actor_depth, critic_depth;
  float gamma, tau, lam, weight_clip, reward_scale, log_std_min, log_std_max;
  float actor_lr, critic_lr, actor_weight_decay, average_rate, threads;
};

inline float clamp(float x) { return x < -1.0f ? -1.0f : x > 1.0f ? 1.0f : x; }

class Learner {
 public:
  // Inputs: settings, rows (K, B, W), noise (K, 2, B, ·), β₁ᵗ and β₂ᵗ of the actor, then of the critics; parameters, m,
  // v and averages of the actor; parameters, m, v and targets of the critics.
  Learner(float **data, int *ndims, int64_t **shapes)
      : s(*reinterpret_cast<const Settings *>(data[0])), obs(s.obs), size(s.action), discrete(s.discrete > 0),
        free_std(!discrete && s.state_dependent_std == 0), steps(shapes[1][0]), batch(shapes[1][1]),
        width(shapes[1][2]), columns(discrete ? 1 : size), noise_size(shapes[2][3]), all_rows(data[1]),
        all_noise(data[2]) {
    int at = 7;
    actor_adam = {{}, {}, {}, {}, data[3], data[4], s.actor_lr, s.actor_weight_decay, -1.0f};
    read(data + at, ndims + at, shapes + at, s.actor_depth, free_std, 0, actor, actor_adam);
    at += 4 * actor_adam.value.size();
    for (int i = 0; i < 2; ++i) {
      critic_adam[i] = {{}, {}, {}, {}, data[5], data[6], s.critic_lr, 0.0f, s.tau};
      critic[i].norm = s.layer_norm > 0;
      read(data + at, ndims + at, shapes + at, s.critic_depth, false, i, critic[i], critic_adam[i]);
      target[i] = critic[i];
      for (size_t k = 0; k < critic[i].depth(); ++k) {
        target[i].weight[k] = critic_adam[i].slow[k];
        target[i].bias[k] = critic_adam[i].slow[critic[i].depth() + k];
      }
      critic_tape[i] = critic[i].tape(batch);
      q[i].resize(batch);
    }
    actor_tape = actor.tape(batch);
    for (auto *x : {&value, &adv, &weight, &log_prob, &spread, &loss}) x->resize(batch);
    by_log_std.resize(free_std ? batch * size : 0);
    policy.resize(batch * actor.out.back());
    state_action.resize(discrete ? 0 : batch * (obs + size));
  }

  // Means over the steps of the seven metrics, and the first step whose metrics are not finite.
  void run(float *metrics, int *bad_step) {
    std::fill(metrics, metrics + 7, 0.0f);
    *bad_step = steps;
    for (int64_t k = 0; k < steps; ++k) {
      rows = all_rows + k * batch * width;
      noise_next = all_noise + k * 2 * batch * noise_size;
      noise_pi = noise_next + batch * noise_size;
      const std::array<float, 7> found = step();
      float sum = 0.0f;
      for (int i = 0; i < 7; ++i) {
        metrics[i] += found[i] / steps;
        sum += found[i];
      }
      if (!std::isfinite(sum)) *bad_step = std::min<int>(*bad_step, k);
    }
  }

 private:
  void read(float **data, int *ndims, int64_t **shapes, int depth, int before, int copy, Mlp &net, Adam &adam) {
    const int count = before + 2 * depth;
    for (int i = 0; i < count; ++i) {
      int64_t elements = 1;
      for (int d = ndims[i] - 2; d < ndims[i]; ++d) elements *= shapes[i][d];
      adam.value.push_back(data[i] + copy * elements);
      adam.m.push_back(data[count + i] + copy * elements);
      adam.v.push_back(data[2 * count + i] + copy * elements);
      adam.slow.push_back(data[3 * count + i] + copy * elements);
    }
    for (int i = before; i < before + depth; ++i) {
      net.in.push_back(shapes[i][ndims[i] - 2]);
      net.out.push_back(shapes[i][ndims[i] - 1]);
      net.weight.push_back(adam.value[i]);
      net.bias.push_back(adam.value[i + depth]);
    }
  }

  std::array<float, 7> step() {
    const int64_t blocks = (batch + kRows - 1) / kRows;
    auto each_block = [&](auto work) {
      Pool::get(s.threads).run(blocks, [&](int64_t i) { work(i * kRows, std::min(kRows, batch - i * kRows)); });
    };
    each_block([&](int64_t first, int64_t count) { critics_block(first, count); });
    weigh();
    each_block([&](int64_t first, int64_t count) { actor_block(first, count); });
    const auto found = metrics();
    update();
    return found;
  }

  // Eq. (9) and its gradient down to every layer's z, and the advantages, eq. (12).
  void critics_block(int64_t first, int64_t count) {
    const float *row = rows + first * width;
    const int64_t inputs = critic[0].in[0], outputs = critic[0].out.back();
    std::vector<float> dist(count * actor.out.back()), x(count * inputs), out[2], next(count);
    for (auto &o : out) o.resize(count * outputs);
    forward(actor, row + obs, width, count, dist.data());
    state_value(target, row + obs, dist.data(), noise_next + first * noise_size, count, x, out, next.data());
    forward(actor, row, width, count, policy.data() + first * actor.out.back(), &actor_tape, first);

    float *taken = discrete ? nullptr : state_action.data() + first * inputs;
    for (int64_t r = 0; r < count && !discrete; ++r) {
      const float *from = row + r * width;
      std::copy(from, from + obs, taken + r * inputs);
      std::copy(from + 2 * obs, from + 2 * obs + size, taken + r * inputs + obs);
    }
    for (int i = 0; i < 2; ++i) {
      forward(critic[i], discrete ? row : taken, discrete ? width : inputs, count, out[i].data(), &critic_tape[i],
              first);
      float *by_out = critic_tape[i].gradient.back().data() + first * outputs;
      std::fill(by_out, by_out + count * outputs, 0.0f);
      for (int64_t r = 0; r < count; ++r) {
        const float *at = row + r * width;
        const int64_t index = discrete ? action_index(at) : 0;
        const float y = at[2 * obs + columns] * s.reward_scale +
                        s.gamma * (1.0f - at[2 * obs + columns + 1]) * next[r];
        const float mine = index < 0 ? 0.0f : out[i][r * outputs + index], error = mine - y;
        q[i][first + r] = mine;
        loss[first + r] = (i ? loss[first + r] : 0.0f) + error * error;
        if (index >= 0) by_out[r * outputs + index] = 2.0f * error / batch;
      }
      backward(critic[i], critic_tape[i], first, count);
    }
    // All actions of discrete critics are in `out` already.
    state_value(discrete ? nullptr : critic, row, policy.data() + first * actor.out.back(),
                noise_pi + first * noise_size, count, x, out, value.data() + first);
    for (int64_t r = first; r < first + count; ++r) adv[r] = lower(q[0][r], q[1][r]) - value[r];
  }

  static float lower(float a, float b) { return b < a ? b : a; }

  // V(s) at states `width` apart from the policy's outputs; `nets` are run unless `out` holds their outputs already.
  void state_value(const Mlp *nets, const float *state, const float *dist, const float *noise, int64_t count,
                   std::vector<float> &x, std::vector<float> *out, float *into) {
    const int64_t inputs = critic[0].in[0], stride = actor.out.back();
    for (int64_t r = 0; r < count && !discrete; ++r) {
      std::copy(state + r * width, state + r * width + obs, x.data() + r * inputs);
      for (int64_t j = 0; j < size; ++j) {
        const float std = std::exp(log_std(dist + r * stride, j));
        x[r * inputs + obs + j] = clamp(std::tanh(dist[r * stride + j]) + std * noise[r * noise_size + j]);
      }
    }
    for (int i = 0; i < 2 && nets; ++i)
      forward(nets[i], discrete ? state : x.data(), discrete ? width : inputs, count, out[i].data());
    for (int64_t r = 0; r < count; ++r) {
      if (!discrete) {
        into[r] = lower(out[0][r], out[1][r]);
        continue;
      }
      const float *logits = dist + r * stride;
      const float log_sum = log_sum_exp(logits);
      into[r] = 0.0f;
      for (int64_t j = 0; j < size; ++j)
        into[r] += std::exp(logits[j] - log_sum) * lower(out[0][r * size + j], out[1][r * size + j]);
    }
  }

  int64_t action_index(const float *row) const {
    const float index = row[2 * obs];
    return index >= 0 && index < size ? static_cast<int64_t>(index) : -1;
  }

  float sigmoid(const float *out, int64_t j) const {
    return 1.0f / (1.0f + std::exp(-(free_std ? actor_adam.value[0][j] : out[size + j])));
  }

  float log_std(const float *out, int64_t j) const {
    return s.log_std_min + (s.log_std_max - s.log_std_min) * sigmoid(out, j);
  }

  float log_sum_exp(const float *logits) const {
    const float top = *std::max_element(logits, logits + size);
    float sum = 0.0f;
    for (int64_t j = 0; j < size; ++j) sum += std::exp(logits[j] - top);
    return top + std::log(sum);
  }

  // The advantage weights, eq. (13).
  void weigh() {
    if (s.softmax == 0) {
      for (int64_t r = 0; r < batch; ++r) weight[r] = std::exp(std::min(adv[r] / s.lam, std::log(s.weight_clip)));
      return;
    }
    const float top = *std::max_element(adv.begin(), adv.end());
    double sum = 0.0;
    for (int64_t r = 0; r < batch; ++r) sum += weight[r] = std::exp((adv[r] - top) / s.lam);
    for (int64_t r = 0; r < batch; ++r) weight[r] *= static_cast<float>(batch / sum);
  }

  // log π(a|s) and the gradient of eq. (13) down to every layer's z of the policy.
  void actor_block(int64_t first, int64_t count) {
    const int64_t stride = actor.out.back();
    for (int64_t r = first; r < first + count; ++r) {
      const float *out = policy.data() + r * stride, *row = rows + r * width;
      const float share = weight[r] / (s.sum > 0 ? 1 : batch);
      float *by_out = actor_tape.gradient.back().data() + r * stride;
      if (discrete) {
        categorical(out, action_index(row), share, by_out, r);
      } else {
        gaussian(out, row + 2 * obs, share, by_out, r);
      }
    }
    backward(actor, actor_tape, first, count);
  }

  void categorical(const float *logits, int64_t taken, float share, float *by_out, int64_t r) {
    const float log_sum = log_sum_exp(logits);
    float variance = 0.0f;
    for (int64_t j = 0; j < size; ++j) {
      const float prob = std::exp(logits[j] - log_sum);
      variance += prob * (1.0f - prob);
      by_out[j] = taken < 0 ? 0.0f : share * (prob - (j == taken));
    }
    log_prob[r] = taken < 0 ? 0.0f : logits[taken] - log_sum;
    spread[r] = std::sqrt(variance);
  }

  void gaussian(const float *out, const float *action, float share, float *by_out, int64_t r) {
    log_prob[r] = spread[r] = 0.0f;
    for (int64_t j = 0; j < size; ++j) {
      const float mean = std::tanh(out[j]), half = sigmoid(out, j), log = log_std(out, j), std = std::exp(log);
      const float z = (action[j] - mean) / std;
      log_prob[r] -= 0.5f * z * z + log + kLogRoot2Pi;
      spread[r] += std / size;
      by_out[j] = -share * z / std * (1.0f - mean * mean);
      const float by_raw = -share * (z * z - 1.0f) * (s.log_std_max - s.log_std_min) * half * (1.0f - half);
      (free_std ? by_log_std[r * size + j] : by_out[size + j]) = by_raw;
    }
  }

  // In the order of METRICS in learner.py.
  std::array<float, 7> metrics() const {
    double critic_loss = 0, actor_loss = 0, std = 0, q_sum = 0, advantage = 0, sum = 0, squares = 0, reward = 0;
    for (int64_t r = 0; r < batch; ++r) {
      critic_loss += loss[r];
      actor_loss -= log_prob[r] * weight[r];
      std += spread[r];
      q_sum += q[0][r] + q[1][r];
      advantage += adv[r];
      sum += weight[r];
      squares += weight[r] * weight[r];
      reward += rows[r * width + 2 * obs + columns];
    }
    const double n = batch;
    const std::array<double, 7> all = {critic_loss / n, s.sum > 0 ? actor_loss : actor_loss / n, std / n,
                                       q_sum / (2 * n), advantage / n, sum * sum / (n * squares), reward / n};
    std::array<float, 7> found;
    std::copy(all.begin(), all.end(), found.begin());
    return found;
  }

  // A network's gradients, block by block, each used at once.
  struct Net {
    const Mlp *mlp;
    const Tape *tape;
    const Adam *adam;
    const float *input;
    int64_t stride, before;  // of the input's rows; parameters before the weights
  };

  void update() {
    actor_adam.begin();
    if (s.average_rate < 1.0f)  // as `average_rate` in optim.py
      actor_adam.tau =
          -s.average_rate / std::expm1(std::log(*actor_adam.power2) * (std::log1p(-s.average_rate) / std::log(0.999)));
    critic_adam[0].begin();
    critic_adam[1].step = critic_adam[0].step;
    const float *x = discrete ? rows : state_action.data();
    const int64_t stride = discrete ? width : obs + size;
    const Net nets[3] = {{&critic[0], &critic_tape[0], &critic_adam[0], x, stride, 0},
                         {&critic[1], &critic_tape[1], &critic_adam[1], x, stride, 0},
                         {&actor, &actor_tape, &actor_adam, rows, width, free_std}};
    struct Unit { const Net *net; size_t layer; int64_t first; };
    std::vector<Unit> units;
    for (const Net &net : nets)
      for (size_t i = 0; i < net.mlp->depth(); ++i)
        for (int64_t first = 0; first < net.mlp->in[i]; first += kRows) units.push_back({&net, i, first});
    Pool::get(s.threads).run(units.size(), [&](int64_t k) { update(*units[k].net, units[k].layer, units[k].first); });
    if (free_std) {
      std::vector<float> gradient(size);
      for (int64_t r = 0; r < batch; ++r)
        for (int64_t j = 0; j < size; ++j) gradient[j] += by_log_std[r * size + j];
      actor_adam.update(0, 0, size, gradient.data());
    }
  }

  void update(const Net &net, size_t i, int64_t first) const {
    static thread_local std::vector<float> gradient;
    const int64_t in = net.mlp->in[i], out = net.mlp->out[i], count = std::min(kRows, in - first);
    const float *x = i ? net.tape->active[i - 1].data() : net.input, *g = net.tape->gradient[i].data();
    gradient.resize(kRows * out);
    dnnl_sgemm('T', 'N', count, out, batch, 1.0f, x + first, i ? in : net.stride, g, out, 0.0f, gradient.data(), out);
    net.adam->update(net.before + i, first * out, count * out, gradient.data());
    if (first > 0) return;
    std::fill(gradient.begin(), gradient.begin() + out, 0.0f);
    for (int64_t r = 0; r < batch; ++r, g += out)
#pragma omp simd
      for (int64_t j = 0; j < out; ++j) gradient[j] += g[j];
    net.adam->update(net.before + net.mlp->depth() + i, 0, out, gradient.data());
  }

  const Settings &s;
  const int64_t obs, size;
  const bool discrete, free_std;
  const int64_t steps, batch, width, columns, noise_size;
  const float *all_rows, *all_noise;
  const float *rows = nullptr, *noise_next = nullptr, *noise_pi = nullptr;
  Mlp actor, critic[2], target[2];
  Adam actor_adam, critic_adam[2];
  Tape actor_tape, critic_tape[2];
  std::vector<float> policy, state_action, by_log_std, q[2], value, adv, weight, log_prob, spread, loss;
};

}  // namespace awac

extern "C" int AwacVersion() { return awac::kVersion; }

extern "C" int Learn(int count, void **params, int *ndims, int64_t **shapes, const char **, void *, void *) {
  auto data = reinterpret_cast<float **>(params);
  // What was compiled and what calls it must agree on the settings and on the number of parameters.
  if (shapes[0][0] * sizeof(float) != sizeof(awac::Settings) || data[0][0] != awac::kVersion) return 1;
  const auto &s = *reinterpret_cast<const awac::Settings *>(data[0]);
  const bool free_std = s.discrete == 0 && s.state_dependent_std == 0;
  if (count != 9 + 4 * (free_std + 2 * static_cast<int>(s.actor_depth)) + 8 * static_cast<int>(s.critic_depth)) return 2;
  awac::Learner(data, ndims, shapes).run(data[count - 2], static_cast<int *>(params[count - 1]));
  return 0;
}
