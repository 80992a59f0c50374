// Means of non-overlapping k x k windows, in both orders of memory, and the way back.
#include "kernels.h"
#include "simd.h"

namespace saccade {
namespace SACCADE_ISA {
namespace {

// Channels innermost: rows of C numbers are added window by window, in the order in which torch adds them.
template <int K> void last_forward(const Pool& p, const float* x, float* y, int64_t rows) {
  const int k = K ? K : p.k;
  const int64_t C = p.C, line = p.W * C, wide = p.W / k;
  const float count = static_cast<float>(k * k);
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t col = 0; col < wide; ++col) {
      const float* from = x + row * k * line + col * k * C;
      float* to = y + (row * wide + col) * C;
      int64_t c = 0;
      for (; c + W <= C; c += W) {
        V sum{};
        for (int i = 0; i < k; ++i)
          for (int j = 0; j < k; ++j) sum += load(from + i * line + j * C + c);
        store(to + c, sum / count);
      }
      for (; c < C; ++c) {
        float sum = 0;
        for (int i = 0; i < k; ++i)
          for (int j = 0; j < k; ++j) sum += from[i * line + j * C + c];
        to[c] = sum / count;
      }
    }
}

template <int K, bool Stream> void last_backward(const Pool& p, const float* g, float* gx, int64_t rows) {
  const int k = K ? K : p.k;
  const int64_t C = p.C, line = p.W * C, wide = p.W / k;
  const float count = static_cast<float>(k * k);
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t col = 0; col < wide; ++col) {
      const float* from = g + (row * wide + col) * C;
      float* to = gx + row * k * line + col * k * C;
      int64_t c = 0;
      for (; c + W <= C; c += W) {
        const V v = load(from + c) / count;
        for (int i = 0; i < k; ++i)
          for (int j = 0; j < k; ++j) Stream ? stream(to + i * line + j * C + c, v) : store(to + i * line + j * C + c, v);
      }
      for (; c < C; ++c)
        for (int i = 0; i < k; ++i)
          for (int j = 0; j < k; ++j) to[i * line + j * C + c] = from[c] / count;
    }
  if (Stream) fence();
}

template <int K> void channels_last(const Pool& p, const float* from, float* to, int64_t rows) {
  if (!p.back) return last_forward<K>(p, from, to, rows);
  const bool aligned = p.C % W == 0 && unaligned(to, W) == 0;
  p.stream && aligned ? last_backward<K, true>(p, from, to, rows) : last_backward<K, false>(p, from, to, rows);
}

// Width innermost; k known to the compiler for the common window.
template <int K> void first_forward(const Pool& p, const float* x, float* y, int64_t rows) {
  const int k = K ? K : p.k;
  const int64_t wide = p.W / k;
  const float count = static_cast<float>(k * k);
  for (int64_t row = 0; row < rows; ++row) {
    const float* from = x + row * k * p.W;
    float* to = y + row * wide;
    for (int64_t col = 0; col < wide; ++col) {
      float sum = 0;
      for (int i = 0; i < k; ++i)
        for (int j = 0; j < k; ++j) sum += from[i * p.W + col * k + j];
      to[col] = sum / count;
    }
  }
}

template <int K> void first_backward(const Pool& p, const float* g, float* gx, int64_t rows) {
  const int k = K ? K : p.k;
  const int64_t wide = p.W / k;
  const float count = static_cast<float>(k * k);
  for (int64_t row = 0; row < rows; ++row)
    for (int i = 0; i < k; ++i) {
      float* to = gx + (row * k + i) * p.W;
      const float* from = g + row * wide;
      for (int64_t col = 0; col < wide; ++col)
        for (int j = 0; j < k; ++j) to[col * k + j] = from[col] / count;
    }
}

}  // namespace

void pool(const Pool& p, int64_t first, int64_t last) {
  const int64_t wide = p.W / p.k, in = p.k * p.W * p.C, out = wide * p.C, rows = last - first;
  const float* from = p.from + first * (p.back ? out : in);
  float* to = p.to + first * (p.back ? in : out);
  if (p.C > 1) return p.k == 2 ? channels_last<2>(p, from, to, rows) : channels_last<0>(p, from, to, rows);
  if (p.k == 2) return p.back ? first_backward<2>(p, from, to, rows) : first_forward<2>(p, from, to, rows);
  p.back ? first_backward<0>(p, from, to, rows) : first_forward<0>(p, from, to, rows);
}

}  // namespace SACCADE_ISA
}  // namespace saccade
