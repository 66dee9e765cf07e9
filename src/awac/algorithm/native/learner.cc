// K steps of `GradientSteps` as one MindSpore custom operator. `step.py` is the same step in MindSpore and is what to
// read first: there a step has some hundred kernels, and launching them takes longer than what they compute.
//
// Work is cut into units that don't depend on the number of threads, so the results don't either.

#include <array>
#include <limits>
#include <numeric>
#include <vector>

#include "head.h"
#include "mlp.h"
#include "pool.h"

namespace awac {

constexpr int64_t kRows = 64;  // of a batch or of a weight, in one unit of work

class Learner {
 public:
  // Inputs: settings, rows (K, B, W), noise (K, 2, B, ·), β₁ᵗ and β₂ᵗ of the actor, then of the critics; parameters, m,
  // v and averages of the actor; parameters, m, v and targets of the critics.
  Learner(float **data, int *ndims, int64_t **shapes)
      : s(*reinterpret_cast<const Settings *>(data[0])), obs(s.obs), size(s.action), discrete(s.discrete > 0),
        free_std(!discrete && s.state_dependent_std == 0), critic_first(s.critic_first > 0), steps(shapes[1][0]),
        batch(shapes[1][1]), width(shapes[1][2]), columns(discrete ? 1 : size), noise_size(shapes[2][3]),
        all_rows(data[1]), all_noise(data[2]), head{s, size, free_std ? data[7] : nullptr} {
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
    for (auto *x : {&value, &adv, &weight, &log_prob, &mean_std, &loss}) x->resize(batch);
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
    q_sum = std::accumulate(q[0].begin(), q[0].end(), 0.0) + std::accumulate(q[1].begin(), q[1].end(), 0.0);
    if (critic_first) {
      update({critic_net(0), critic_net(1)});
      each_block([&](int64_t first, int64_t count) { critics_again_block(first, count); });
    }
    weigh();
    each_block([&](int64_t first, int64_t count) { actor_block(first, count); });
    const auto found = metrics();
    const Net policy_net = {&actor, &actor_tape, &actor_adam, rows, width, free_std};
    if (critic_first) {
      update({policy_net});
    } else {
      update({critic_net(0), critic_net(1), policy_net});
    }
    return found;
  }

  // Eq. (9) and its gradient down to every layer's z; the advantages, unless they wait for the critics' step.
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
    if (!critic_first) advantages(first, count, x, out);
  }

  // The critics at the data's actions after their step, and the advantages.
  void critics_again_block(int64_t first, int64_t count) {
    const float *row = rows + first * width;
    const int64_t inputs = critic[0].in[0], outputs = critic[0].out.back();
    std::vector<float> x(count * inputs), out[2];
    for (int i = 0; i < 2; ++i) {
      out[i].resize(count * outputs);
      forward(critic[i], discrete ? row : state_action.data() + first * inputs, discrete ? width : inputs, count,
              out[i].data());
      for (int64_t r = 0; r < count; ++r) {
        const int64_t index = discrete ? action_index(row + r * width) : 0;
        q[i][first + r] = index < 0 ? 0.0f : out[i][r * outputs + index];
      }
    }
    advantages(first, count, x, out);
  }

  // Eq. (12); `out` holds the critics' outputs, of discrete ones for all actions.
  void advantages(int64_t first, int64_t count, std::vector<float> &x, std::vector<float> *out) {
    state_value(discrete ? nullptr : critic, rows + first * width, policy.data() + first * actor.out.back(),
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
      head.sample(dist + r * stride, noise + r * noise_size, x.data() + r * inputs + obs);
    }
    for (int i = 0; i < 2 && nets; ++i)
      forward(nets[i], discrete ? state : x.data(), discrete ? width : inputs, count, out[i].data());
    for (int64_t r = 0; r < count; ++r) {
      if (!discrete) {
        into[r] = lower(out[0][r], out[1][r]);
        continue;
      }
      const float *logits = dist + r * stride;
      const float log_sum = head.log_sum_exp(logits);
      into[r] = 0.0f;
      for (int64_t j = 0; j < size; ++j)
        into[r] += std::exp(logits[j] - log_sum) * lower(out[0][r * size + j], out[1][r * size + j]);
    }
  }

  int64_t action_index(const float *row) const {
    const float index = row[2 * obs];
    return index >= 0 && index < size ? static_cast<int64_t>(index) : -1;
  }

  // The advantage weights, eq. (13).
  void weigh() {
    if (s.weighting == kUniform) return std::fill(weight.begin(), weight.end(), std::max(1.0f, s.weight_floor));
    const bool softmax = s.weighting == kSoftmax;
    const double squares = std::accumulate(loss.begin(), loss.end(), 0.0);
    const float lam = s.td_error > 0 ? s.lam * std::sqrt(squares / (2 * batch)) : s.lam;
    const float top = softmax ? *std::max_element(adv.begin(), adv.end()) : 0.0f, most = std::log(s.weight_clip);
    double sum = 0.0;
    for (int64_t r = 0; r < batch; ++r)
      sum += weight[r] = std::exp(softmax ? (adv[r] - top) / lam : std::min(adv[r] / lam, most));
    const float scale = softmax ? static_cast<float>(batch / sum) : 1.0f;
    for (int64_t r = 0; r < batch; ++r) weight[r] = std::max(weight[r] * scale, s.weight_floor);
  }

  // log π(a|s) and the gradient of eq. (13) down to every layer's z of the policy.
  void actor_block(int64_t first, int64_t count) {
    const int64_t stride = actor.out.back();
    for (int64_t r = first; r < first + count; ++r) {
      const float *out = policy.data() + r * stride, *row = rows + r * width;
      const float share = weight[r] / (s.sum > 0 ? 1 : batch);
      float *by_out = actor_tape.gradient.back().data() + r * stride;
      if (discrete) {
        log_prob[r] = head.categorical(out, action_index(row), share, by_out, &mean_std[r]);
      } else {
        float *by_raw = free_std ? by_log_std.data() + r * size : by_out + size;
        log_prob[r] = head.gaussian(out, row + 2 * obs, share, by_out, by_raw, &mean_std[r]);
      }
    }
    backward(actor, actor_tape, first, count);
  }

  // In the order of METRICS in step.py.
  std::array<float, 7> metrics() const {
    double critic_loss = 0, actor_loss = 0, std = 0, advantage = 0, sum = 0, squares = 0, reward = 0;
    const double most = std::max(*std::max_element(weight.begin(), weight.end()), std::numeric_limits<float>::min());
    for (int64_t r = 0; r < batch; ++r) {
      const double share = weight[r] / most;  // squares of tiny weights would be 0
      critic_loss += loss[r];
      actor_loss -= log_prob[r] * weight[r];
      std += mean_std[r];
      advantage += adv[r];
      sum += share;
      squares += share * share;
      reward += rows[r * width + 2 * obs + columns];
    }
    const double n = batch;
    const std::array<double, 7> all = {critic_loss / n, s.sum > 0 ? actor_loss : actor_loss / n, std / n,
                                       q_sum / (2 * n), advantage / n, squares > 0 ? sum * sum / (n * squares) : 0.0,
                                       reward / n};
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

  Net critic_net(int i) const {
    return {&critic[i], &critic_tape[i], &critic_adam[i], discrete ? rows : state_action.data(),
            discrete ? width : obs + size, 0};
  }

  // The same in optim.py.
  static float average_rate(float rate, float power2) {
    const float log_power = std::log(power2), log_decay = std::log1p(-rate);
    if (power2 > kLate) return -rate / std::expm1(log_power * (log_decay / std::log(0.999)));
    const double late = std::log(kLate) / std::log(0.999) + (log_power - std::log(kLate)) / std::log(kLateBeta2);
    return -rate / std::expm1(late * log_decay);
  }

  void update(const std::vector<Net> &nets) {
    const bool with_critics = nets[0].mlp == critic, with_policy = nets.back().mlp == &actor;
    if (with_critics) {
      critic_adam[0].begin();
      critic_adam[1].step = critic_adam[0].step;
    }
    if (with_policy) {
      actor_adam.begin();
      if (s.average_rate < 1.0f) actor_adam.tau = average_rate(s.average_rate, *actor_adam.power2);
    }
    struct Unit { const Net *net; size_t layer; int64_t first; };
    std::vector<Unit> units;
    for (const Net &net : nets)
      for (size_t i = 0; i < net.mlp->depth(); ++i)
        for (int64_t first = 0; first < net.mlp->in[i]; first += kRows) units.push_back({&net, i, first});
    Pool::get(s.threads).run(units.size(), [&](int64_t k) { update(*units[k].net, units[k].layer, units[k].first); });
    if (with_policy && free_std) {
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
  const bool discrete, free_std, critic_first;
  const int64_t steps, batch, width, columns, noise_size;
  const float *all_rows, *all_noise;
  const Head head;
  double q_sum = 0.0;
  const float *rows = nullptr, *noise_next = nullptr, *noise_pi = nullptr;
  Mlp actor, critic[2], target[2];
  Adam actor_adam, critic_adam[2];
  Tape actor_tape, critic_tape[2];
  std::vector<float> policy, state_action, by_log_std, q[2], value, adv, weight, log_prob, mean_std, loss;
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
  const unsigned before = awac::flush_subnormals();
  awac::Learner(data, ndims, shapes).run(data[count - 2], static_cast<int *>(params[count - 1]));
  _mm_setcsr(before);
  return 0;
}
