// Integer neurons, forward and backward, for one chunk of neurons with time outermost. Order of operations as in
// saccade/kernels/integer.py.
#include "kernels.h"
#include "simd.h"

namespace saccade {
namespace SACCADE_ISA {
namespace {

// floor(clamp(u, 0, limit) + 1/2) as a whole number; what is not above zero (NaN too) counts nothing.
ALWAYS V level(V u, V limit) {
  V inside = u > 0.f ? u : V{};
  inside = inside > limit ? limit : inside;
  return __builtin_convertvector(__builtin_convertvector(inside + 0.5f, I), V);
}

template <class E> ALWAYS V charge(const Integer& c, const E* x, const float* rest, int64_t i, int64_t n) {
  const V current = c.gain * read(x, i, n);
  return rest ? c.decay * read(rest, i, n) + current : current;
}

template <class E> void forward_in(const Integer& c, int64_t begin, int64_t end, float* rest) {
  const E* const from = static_cast<const E*>(c.x);
  E* const to = static_cast<E*>(c.y);
  const V limit = all(c.limit);
  const int64_t length = end - begin;
  const float* before = c.stateful ? (c.v0 ? c.v0 + begin : nullptr) : nullptr;
  for (int64_t t = 0; t < c.T; ++t) {
    const E* x = from + t * c.M + begin;
    E* y = to + t * c.M + begin;
    for (int64_t i = 0; i < length; i += W) {
      const int64_t n = length - i < W ? length - i : W;
      const V u = charge(c, x, before, i, n), s = level(u, limit);
      write(y, i, n, s / c.divisor);
      if (c.stateful) write(rest, i, n, u - s);
    }
    if (c.stateful) before = rest;
  }
  if (c.v_last)
    for (int64_t i = 0; i < length; i += W) {
      const int64_t n = length - i < W ? length - i : W;
      write(c.v_last + begin, i, n, before ? read(before, i, n) : V{});
    }
}

template <class E> void backward_in(const Integer& c, int64_t begin, int64_t end, float* scratch) {
  const E *const from = static_cast<const E*>(c.x), *const grad_y = static_cast<const E*>(c.grad_y);
  E* const grad_x = static_cast<E*>(c.grad_x);
  const V limit = all(c.limit);
  const int64_t length = end - begin;
  float *rest = scratch, *grad = scratch + length, *potentials = scratch + 2 * length;
  if (c.stateful) {
    const float* before = c.v0 ? c.v0 + begin : nullptr;
    for (int64_t t = 0; t < c.T; ++t, before = rest)
      for (int64_t i = 0; i < length; i += W) {
        const int64_t n = length - i < W ? length - i : W;
        const V u = charge(c, from + t * c.M + begin, before, i, n);
        write(potentials + t * length, i, n, u);
        write(rest, i, n, u - level(u, limit));
      }
    for (int64_t i = 0; i < length; i += W) {
      const int64_t n = length - i < W ? length - i : W;
      write(grad, i, n, c.grad_v_last ? read(c.grad_v_last + begin, i, n) : V{});
    }
  }
  for (int64_t t = c.T - 1; t >= 0; --t)
    for (int64_t i = 0; i < length; i += W) {
      const int64_t n = length - i < W ? length - i : W;
      const V u = c.stateful ? read(potentials + t * length, i, n) : charge(c, from + t * c.M + begin, nullptr, i, n);
      const V passed = read(grad_y + t * c.M + begin, i, n) / c.divisor;
      V g = (u > 0.f) & (u < limit) ? passed : V{};
      if (c.stateful) {
        g += read(grad, i, n);
        write(grad, i, n, c.decay * g);
      }
      write(grad_x + t * c.M + begin, i, n, c.gain * g);
    }
  if (c.grad_v0)
    for (int64_t i = 0; i < length; i += W) {
      const int64_t n = length - i < W ? length - i : W;
      write(c.grad_v0 + begin, i, n, read(grad, i, n));
    }
}

}  // namespace

void integer_forward(const Integer& c, int64_t begin, int64_t end, float* scratch) {
  (c.type == Type::bfloat16 ? forward_in<Bfloat16> : forward_in<float>)(c, begin, end, scratch);
}

void integer_backward(const Integer& c, int64_t begin, int64_t end, float* scratch) {
  (c.type == Type::bfloat16 ? backward_in<Bfloat16> : backward_in<float>)(c, begin, end, scratch);
}

}  // namespace SACCADE_ISA
}  // namespace saccade
