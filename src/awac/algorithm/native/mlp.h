// A ReLU network on a block of rows, forward and backward, and Adam with Polyak averaging on a block of a weight.
// Matrix products come from oneDNN, which MindSpore brings along.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

extern "C" int dnnl_sgemm(char transa, char transb, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                          int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc);

namespace awac {

constexpr float kEpsilon = 1e-5f;  // of LayerNorm

// The values that the gradient needs, (batch, out) for each layer but the last; gradient[i] is dL/dz of every layer.
struct Tape {
  std::vector<std::vector<float>> active, normal, inverse, gradient;
};

struct Mlp {
  std::vector<int64_t> in, out;
  std::vector<const float *> weight, bias;
  bool norm = false;

  size_t depth() const { return in.size(); }

  Tape tape(int64_t batch) const {
    Tape t;
    for (size_t i = 0; i < depth(); ++i) {
      t.gradient.emplace_back(batch * out[i]);
      if (i + 1 == depth()) break;
      t.active.emplace_back(batch * out[i]);
      t.normal.emplace_back(norm ? batch * out[i] : 0);
      t.inverse.emplace_back(norm ? batch : 0);
    }
    return t;
  }
};

// Σ f(j), in four sums at a time: one alone would wait for each addition to end.
template <class F>
inline float total(int64_t size, F f) {
  const int64_t q = size / 4;
  float a = 0.0f, b = 0.0f, c = 0.0f, d = 0.0f;
#pragma omp simd reduction(+ : a, b, c, d)
  for (int64_t j = 0; j < q; ++j) {
    a += f(j);
    b += f(j + q);
    c += f(j + 2 * q);
    d += f(j + 3 * q);
  }
  for (int64_t j = 4 * q; j < size; ++j) a += f(j);
  return (a + b) + (c + d);
}

inline float relu(float x) { return x < 0.0f ? 0.0f : x; }  // this way round a NaN stays one

// One layer's hidden outputs in place: ReLU of z plus bias.
inline void activate(float *z, int64_t size, const float *bias) {
#pragma omp simd
  for (int64_t j = 0; j < size; ++j) z[j] = relu(z[j] + bias[j]);
}

// The same with LayerNorm before ReLU. `normal` keeps what comes before ReLU, `inverse` the inverse deviation.
inline void activate(float *z, int64_t size, const float *bias, float *normal, float *inverse) {
  const float mean = total(size, [=](int64_t j) { return z[j] += bias[j]; }) / size;
  const float squares = total(size, [=](int64_t j) { return (z[j] - mean) * (z[j] - mean); });
  const float scale = *inverse = 1.0f / std::sqrt(squares / size + kEpsilon);
#pragma omp simd
  for (int64_t j = 0; j < size; ++j) {
    normal[j] = (z[j] - mean) * scale;
    z[j] = relu(normal[j]);
  }
}

// dL/d(output) → dL/dz of one hidden layer, in place.
inline void activate_back(float *g, int64_t size, const float *active) {
#pragma omp simd
  for (int64_t j = 0; j < size; ++j) g[j] = active[j] > 0.0f ? g[j] : 0.0f;
}

inline void activate_back(float *g, int64_t size, const float *active, const float *normal, float inverse) {
  float sum = 0.0f, along = 0.0f;
#pragma omp simd reduction(+ : sum, along)
  for (int64_t j = 0; j < size; ++j) {
    g[j] = active[j] > 0.0f ? g[j] : 0.0f;
    sum += g[j];
    along += g[j] * normal[j];
  }
  sum /= size;
  along /= size;
#pragma omp simd
  for (int64_t j = 0; j < size; ++j) g[j] = inverse * (g[j] - sum - normal[j] * along);
}

// Rows of x, `stride` apart → y (rows, out). With a tape, its rows from `first` on keep what the gradient needs.
inline void forward(const Mlp &net, const float *x, int64_t stride, int64_t rows, float *y, Tape *tape = nullptr,
                    int64_t first = 0) {
  static thread_local std::vector<float> scratch[2];
  for (size_t i = 0; i < net.depth(); ++i) {
    const int64_t in = net.in[i], out = net.out[i];
    const bool last = i + 1 == net.depth();
    float *z = y;
    if (!last && tape) {
      z = tape->active[i].data() + first * out;
    } else if (!last) {
      if (static_cast<int64_t>(scratch[i % 2].size()) < rows * out) scratch[i % 2].resize(rows * out);
      z = scratch[i % 2].data();
    }
    dnnl_sgemm('N', 'N', rows, out, in, 1.0f, x, stride, net.weight[i], out, 0.0f, z, out);
    for (int64_t r = 0; r < rows; ++r) {
      if (last) {
        for (int64_t j = 0; j < out; ++j) z[r * out + j] += net.bias[i][j];
        continue;
      }
      if (!net.norm) {
        activate(z + r * out, out, net.bias[i]);
        continue;
      }
      float inverse;  // without a tape, z itself takes what nobody will read
      activate(z + r * out, out, net.bias[i], tape ? tape->normal[i].data() + (first + r) * out : z + r * out,
               tape ? tape->inverse[i].data() + first + r : &inverse);
    }
    x = z;
    stride = out;
  }
}

// The tape's gradient of the last layer → those of all layers before it, on rows from `first` on.
inline void backward(const Mlp &net, Tape &tape, int64_t first, int64_t rows) {
  for (size_t i = net.depth() - 1; i > 0; --i) {
    const int64_t in = net.in[i], out = net.out[i];
    float *g = tape.gradient[i - 1].data() + first * in;
    dnnl_sgemm('N', 'T', rows, in, out, 1.0f, tape.gradient[i].data() + first * out, out, net.weight[i], out, 0.0f, g,
               in);
    for (int64_t r = first; r < first + rows; ++r, g += in) {
      const float *active = tape.active[i - 1].data() + r * in;
      if (net.norm) {
        activate_back(g, in, active, tape.normal[i - 1].data() + r * in, tape.inverse[i - 1][r]);
      } else {
        activate_back(g, in, active);
      }
    }
  }
}

constexpr float kLate = 1e-30f, kLateBeta2 = 1.0f - 1.0f / (1 << 18);  // LATE and LATE_BETA2 in optim.py

// Parameters in the order of the network: log-std if it is free, weights, biases; with moments and slow copies.
struct Adam {
  std::vector<float *> value, m, v, slow;
  float *power1, *power2;
  float rate, decay, tau;  // tau < 0: no slow copies

  float step = 0.0f;

  void begin() {
    *power1 *= 0.9f;
    *power2 *= *power2 <= kLate ? kLateBeta2 : 0.999f;
    step = rate * std::sqrt(1.0f - *power2) / (1.0f - *power1);
  }

  void update(size_t tensor, int64_t first, int64_t size, const float *gradient) const {
    float *p = value[tensor] + first, *m1 = m[tensor] + first, *v1 = v[tensor] + first;
#pragma omp simd
    for (int64_t j = 0; j < size; ++j) {
      const float g = gradient[j] + decay * p[j];
      m1[j] += (g - m1[j]) * (1.0f - 0.9f);
      v1[j] += (g * g - v1[j]) * (1.0f - 0.999f);
      p[j] -= step * m1[j] / (std::sqrt(v1[j]) + 1e-8f);
    }
    if (tau < 0.0f) return;
    float *q = slow[tensor] + first;
#pragma omp simd
    for (int64_t j = 0; j < size; ++j) q[j] = q[j] * (1.0f - tau) + p[j] * tau;
  }
};

}  // namespace awac
