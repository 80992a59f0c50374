// The scan of dendritic compartments, forward and backward. A unit is one vector of channels of one sequence: its compartments
// stay in registers while its tokens pass.
#include "kernels.h"
#include "simd.h"

namespace saccade {
namespace SACCADE_ISA {
namespace {

constexpr int MOST = 16;  // pairs of compartments, as in saccade/kernels/dendritic.py

// Where a unit lies: sequence b, channels [d, d + n).
struct Unit {
  int64_t b, d, n;
  Unit(const Dendritic& c, int64_t unit) {
    const int64_t wide = (c.D + W - 1) / W;
    b = unit / wide;
    d = unit % wide * W;
    n = c.D - d < W ? c.D - d : W;
  }
};

ALWAYS V read(const float* p, int64_t n) { return n == W ? load(p) : load_part(p, n); }
ALWAYS void write(float* p, int64_t n, V v) { n == W ? store(p, v) : store_part(p, v, n); }

ALWAYS float total(V v) {
  float sum = 0;
  for (int i = 0; i < W; ++i) sum += v[i];
  return sum;
}

// P pairs, known to the compiler where P > 0: then all of this is in registers.
template <int P> struct Pairs {
  static constexpr int SIZE = P ? P : MOST;
  int count;
  V turn_re[SIZE], turn_im[SIZE], read_re[SIZE], read_im[SIZE];
  explicit Pairs(const Dendritic& c) : count(P ? P : c.pairs) {
    for (int j = 0; j < count; ++j) {
      turn_re[j] = all(c.pairs_of(0)[j]);
      turn_im[j] = all(c.pairs_of(1)[j]);
      read_re[j] = all(c.pairs_of(2)[j]);
      read_im[j] = all(c.pairs_of(3)[j]);
    }
  }
  ALWAYS_MEMBER void step(V* re, V* im, V x) const {
    for (int j = 0; j < (P ? P : count); ++j) {
      const V next = multiply_add(turn_re[j], re[j], multiply_add(-turn_im[j], im[j], x));
      im[j] = multiply_add(turn_im[j], re[j], turn_re[j] * im[j]);
      re[j] = next;
    }
  }
  ALWAYS_MEMBER V read_out(const V* re, const V* im) const {
    V even = read_re[0] * re[0], odd = read_im[0] * im[0];
    for (int j = 1; j < (P ? P : count); ++j) {
      even = multiply_add(read_re[j], re[j], even);
      odd = multiply_add(read_im[j], im[j], odd);
    }
    return even + odd;
  }
};

// States ``[B, 2 * pairs, D]``: the real parts, then the imaginary ones.
template <int P> ALWAYS void begin(const Dendritic& c, const Unit& u, const float* from, V* re, V* im) {
  for (int j = 0; j < (P ? P : c.pairs); ++j) {
    re[j] = from ? read(from + (u.b * 2 * c.pairs + j) * c.D + u.d, u.n) : V{};
    im[j] = from ? read(from + (u.b * 2 * c.pairs + c.pairs + j) * c.D + u.d, u.n) : V{};
  }
}

template <int P> ALWAYS void keep(const Dendritic& c, const Unit& u, float* to, const V* re, const V* im) {
  for (int j = 0; j < (P ? P : c.pairs); ++j) {
    write(to + (u.b * 2 * c.pairs + j) * c.D + u.d, u.n, re[j]);
    write(to + (u.b * 2 * c.pairs + c.pairs + j) * c.D + u.d, u.n, im[j]);
  }
}

template <int P> void forward(const Dendritic& c, int64_t first, int64_t last) {
  const Pairs<P> pairs(c);
  for (int64_t unit = first; unit < last; ++unit) {
    const Unit u(c, unit);
    V re[Pairs<P>::SIZE], im[Pairs<P>::SIZE];
    begin<P>(c, u, c.state, re, im);
    const float* x = c.x + u.b * c.L * c.D + u.d;
    float* y = c.y + u.b * c.L * c.D + u.d;
    for (int64_t l = 0; l < c.L; ++l, x += c.D, y += c.D) {
      pairs.step(re, im, read(x, u.n));
      write(y, u.n, pairs.read_out(re, im));
    }
    if (c.last) keep<P>(c, u, c.last, re, im);
  }
}

// States are made again on the way back, segment by segment, from those at the segments' beginnings.
template <int P> void backward(const Dendritic& c, int64_t first, int64_t last, float* scratch) {
  const Pairs<P> pairs(c);
  const int count = P ? P : c.pairs;
  const int64_t segment = DENDRITIC_SEGMENT, row = 2 * count * W;
  float *starts = scratch, *states = scratch + (c.L / segment + 1) * row;
  for (int64_t unit = first; unit < last; ++unit) {
    const Unit u(c, unit);
    V re[Pairs<P>::SIZE], im[Pairs<P>::SIZE];
    begin<P>(c, u, c.state, re, im);
    const float *x = c.x + u.b * c.L * c.D + u.d, *g = c.grad_y + u.b * c.L * c.D + u.d;
    float* gx = c.grad_x + u.b * c.L * c.D + u.d;
    for (int64_t l = 0; l < c.L; ++l) {
      if (l % segment == 0)
        for (int j = 0; j < count; ++j) {
          store(starts + l / segment * row + 2 * j * W, re[j]);
          store(starts + l / segment * row + (2 * j + 1) * W, im[j]);
        }
      pairs.step(re, im, read(x + l * c.D, u.n));
    }
    V back_re[Pairs<P>::SIZE], back_im[Pairs<P>::SIZE], sums[4][Pairs<P>::SIZE];
    begin<P>(c, u, c.grad_last, back_re, back_im);
    for (auto& of : sums)
      for (int j = 0; j < count; ++j) of[j] = V{};
    for (int64_t s = (c.L - 1) / segment; s >= 0 && c.L > 0; --s) {
      const int64_t from = s * segment, to = c.L < from + segment ? c.L : from + segment;
      for (int j = 0; j < count; ++j) {
        re[j] = load(starts + s * row + 2 * j * W);
        im[j] = load(starts + s * row + (2 * j + 1) * W);
      }
      for (int64_t l = from; l < to; ++l) {  // states[l - from]: before token l
        float* at = states + (l - from) * row;
        for (int j = 0; j < count; ++j) {
          store(at + 2 * j * W, re[j]);
          store(at + (2 * j + 1) * W, im[j]);
        }
        pairs.step(re, im, read(x + l * c.D, u.n));
      }
      for (int64_t l = to - 1; l >= from; --l) {
        const V grad = read(g + l * c.D, u.n);
        const float* at = states + (l - from) * row;
        V into{};
        for (int j = 0; j < (P ? P : count); ++j) {
          const V before_re = load(at + 2 * j * W), before_im = load(at + (2 * j + 1) * W);
          // back_*: what the states after token l weigh in later tokens; re, im: those states
          back_re[j] = multiply_add(pairs.read_re[j], grad, back_re[j]);
          back_im[j] = multiply_add(pairs.read_im[j], grad, back_im[j]);
          sums[2][j] = multiply_add(grad, re[j], sums[2][j]);
          sums[3][j] = multiply_add(grad, im[j], sums[3][j]);
          sums[0][j] = multiply_add(back_re[j], before_re, multiply_add(back_im[j], before_im, sums[0][j]));
          sums[1][j] = multiply_add(back_im[j], before_re, multiply_add(-back_re[j], before_im, sums[1][j]));
          into += back_re[j];
          const V turned = multiply_add(pairs.turn_re[j], back_re[j], pairs.turn_im[j] * back_im[j]);
          back_im[j] = multiply_add(pairs.turn_re[j], back_im[j], -pairs.turn_im[j] * back_re[j]);
          back_re[j] = turned;
          re[j] = before_re;
          im[j] = before_im;
        }
        write(gx + l * c.D, u.n, into);
      }
    }
    if (c.grad_state) keep<P>(c, u, c.grad_state, back_re, back_im);
    for (int k = 0; k < 4; ++k)
      for (int j = 0; j < count; ++j) c.grad_pairs[(unit * 4 + k) * count + j] = total(sums[k][j]);
  }
}

}  // namespace

void dendritic_forward(const Dendritic& c, int64_t first, int64_t last) {
  switch (c.pairs) {
    case 1: return forward<1>(c, first, last);
    case 2: return forward<2>(c, first, last);
    case 4: return forward<4>(c, first, last);
    default: return forward<0>(c, first, last);
  }
}

void dendritic_backward(const Dendritic& c, int64_t first, int64_t last, float* scratch) {
  switch (c.pairs) {
    case 1: return backward<1>(c, first, last, scratch);
    case 2: return backward<2>(c, first, last, scratch);
    case 4: return backward<4>(c, first, last, scratch);
    default: return backward<0>(c, first, last, scratch);
  }
}

}  // namespace SACCADE_ISA
}  // namespace saccade
