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

// One layer's hidden outputs in place: ReLU of z, or of z normalised; `normal` keeps what comes before ReLU.
inline void activate(float *z, int64_t size, const float *bias, float *normal, float *inverse) {
#pragma omp simd
  for (int64_t j = 0; j < size; ++j) z[j] += bias[j];
  if (inverse) {
    float sum = 0.0f, squares = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < size; ++j) sum += z[j];
    const float mean = sum / size;
#pragma omp simd reduction(+ : squares)
    for (int64_t j = 0; j < size; ++j) squares += (z[j] - mean) * (z[j] - mean);
    const float scale = *inverse = 1.0f / std::sqrt(squares / size + kEpsilon);
#pragma omp simd
    for (int64_t j = 0; j < size; ++j) z[j] = (z[j] - mean) * scale;
    if (normal) std::copy(z, z + size, normal);
  }
#pragma omp simd
  for (int64_t j = 0; j < size; ++j) z[j] = z[j] < 0.0f ? 0.0f : z[j];  // this way round a NaN stays one
}

// dL/d(output) → dL/dz of one hidden layer, in place.
inline void activate_back(float *g, int64_t size, const float *active, const float *normal, const float *inverse) {
#pragma omp simd
  for (int64_t j = 0; j < size; ++j) g[j] = active[j] > 0.0f ? g[j] : 0.0f;
  if (!inverse) return;
  float sum = 0.0f, along = 0.0f;
#pragma omp simd reduction(+ : sum, along)
  for (int64_t j = 0; j < size; ++j) {
    sum += g[j];
    along += g[j] * normal[j];
  }
  sum /= size;
  along /= size;
  const float scale = *inverse;
#pragma omp simd
  for (int64_t j = 0; j < size; ++j) g[j] = scale * (g[j] - sum - normal[j] * along);
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
      float inverse, *kept = nullptr, *scale = net.norm ? &inverse : nullptr;
      if (tape && net.norm) {
        kept = tape->normal[i].data() + (first + r) * out;
        scale = tape->inverse[i].data() + first + r;
      }
      activate(z + r * out, out, net.bias[i], kept, scale);
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
      const int64_t at = r * in;
      const bool norm = net.norm;
      activate_back(g, in, tape.active[i - 1].data() + at, norm ? tape.normal[i - 1].data() + at : nullptr,
                    norm ? tape.inverse[i - 1].data() + r : nullptr);
    }
  }
}

// Parameters in the order of the network: log-std if it is free, weights, biases; with moments and slow copies.
struct Adam {
  std::vector<float *> value, m, v, slow;
  float *power1, *power2;
  float rate, decay, tau;  // tau < 0: no slow copies

  float step = 0.0f;

  void begin() {
    *power1 *= 0.9f;
    *power2 *= 0.999f;
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
