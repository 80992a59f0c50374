// The passes of dehazing. Loops over rows are left to the compiler's vectoriser: hence the plain arrays and __restrict.
#include "dehaze.h"

#include <cmath>
#include <cstring>

namespace saccade {
namespace SACCADE_ISA {
namespace {

#define ROW float* __restrict
#define CROW const float* __restrict
#define BYTES uint8_t* __restrict
#define CBYTES const uint8_t* __restrict

constexpr float SMALLEST = 2.220446e-16f, GUARD = 1e-5f;

// Own forms of what the library has as templates: a function compiled for one instruction set must not be linked into another.
int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
template <class T> void set(T* to, int64_t n, T value) {
  for (int64_t i = 0; i < n; ++i) to[i] = value;
}
template <class T> void swap(T*& a, T*& b) {
  T* kept = a;
  a = b;
  b = kept;
}

struct Max {
  template <class T> static T pick(T a, T b) { return a > b ? a : b; }
  static constexpr float outside = 0;  // squared distances are not below it
};
struct Min {
  template <class T> static T pick(T a, T b) { return a < b ? a : b; }
  static constexpr uint8_t outside = 255;
};

template <class Op, class T> void combine(T* __restrict to, const T* __restrict a, const T* __restrict b, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = Op::pick(a[i], b[i]);
}

template <class Op, class T> void improve(T* __restrict to, const T* __restrict with, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = Op::pick(to[i], with[i]);
}

// Extremes of `window` neighbours along a row. `line` holds window / 2 values from outside, the row, and as many again;
// `other` is as long. The result has n values and lies in one of the two.
template <class Op, class T> T* along(T* line, T* other, int64_t n, int64_t window) {
  int64_t length = n + window - 1, have = 1;
  for (; 2 * have <= window; have *= 2) {
    length -= have;
    combine<Op, T>(other, line, line + have, length);
    swap(line, other);
  }
  if (const int64_t rest = window - have) {
    combine<Op, T>(other, line, line + rest, n);
    swap(line, other);
  }
  return line;
}

// Extremes of `window` neighbours down n columns of a plane, in place (van Herk 1992): a window is the end of one block of
// `window` rows and the beginning of the next. `done(row, y)` sees each finished row.
template <class Op, class T, class Done>
void down(T* plane, int64_t stride, int64_t H, int64_t n, int64_t window, T* scratch, const Done& done) {
  const int64_t radius = window / 2, line = (n + 15) / 16 * 16;
  T* begin = scratch;          // extremes of the block so far
  T* block = scratch + line;   // its rows, then the extremes of its ends
  for (int64_t z = 0; z < H + radius; ++z) {
    const int64_t i = z % window;
    T* kept = block + i * line;
    if (z < H) {
      const T* row = plane + z * stride;
      i == 0 ? void(std::memcpy(begin, row, n * sizeof(T))) : improve<Op, T>(begin, row, n);
      std::memcpy(kept, row, n * sizeof(T));
    } else {
      if (i == 0) set(begin, n, T(Op::outside));
      set(kept, n, T(Op::outside));
    }
    if (z >= radius) {
      T* to = plane + (z - radius) * stride;
      if (z >= window && i + 1 < window)
        combine<Op, T>(to, begin, kept + line, n);
      else
        std::memcpy(to, begin, n * sizeof(T));
      done(to, z - radius);
    }
    if (i == window - 1)
      for (int64_t j = window - 2; j >= 0; --j) improve<Op, T>(block + j * line, block + (j + 1) * line, n);
  }
}

void take_apart(CBYTES rgb, BYTES r, BYTES g, BYTES b, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    r[i] = rgb[3 * i];
    g[i] = rgb[3 * i + 1];
    b[i] = rgb[3 * i + 2];
  }
}

void least_channel(CBYTES r, CBYTES g, CBYTES b, BYTES to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = Min::pick(Min::pick(r[i], g[i]), b[i]);
}

void split(const Frame& f, int64_t window, int64_t first, int64_t last, float* scratch) {
  const int64_t radius = window / 2;
  uint8_t* line = reinterpret_cast<uint8_t*>(scratch);
  uint8_t* other = line + (f.W + window + 63) / 64 * 64;
  for (int64_t y = first; y < last; ++y) {
    uint8_t* rows[3];
    for (int c = 0; c < 3; ++c) rows[c] = f.colour[c] + y * f.stride;
    take_apart(f.in + y * f.W * 3, rows[0], rows[1], rows[2], f.W);
    if (window == 0) continue;
    std::memset(line, Min::outside, radius);
    least_channel(rows[0], rows[1], rows[2], line + radius, f.W);
    std::memset(line + radius + f.W, Min::outside, radius);
    std::memcpy(f.dark + y * f.stride, along<Min>(line, other, f.W, window), f.W);
  }
}

void darkest(const Frame& f, int64_t window, int64_t first, int64_t last, float* scratch, uint32_t* counts) {
  uint32_t banks[4][LEVELS] = {};
  const int64_t n = last - first;
  down<Min>(f.dark + first, f.stride, f.H, n, window, reinterpret_cast<uint8_t*>(scratch), [&](const uint8_t* row, int64_t) {
    for (int64_t i = 0; i < n; ++i) ++banks[i & 3][row[i]];
  });
  for (int64_t v = 0; v < LEVELS; ++v) counts[v] += banks[0][v] + banks[1][v] + banks[2][v] + banks[3][v];
}

void brightest(const Frame& f, int threshold, int64_t first, int64_t last, uint32_t* counts) {
  constexpr int64_t STEP = 64;
  for (int64_t y = first; y < last; ++y) {
    const uint8_t* dark = f.dark + y * f.stride;
    for (int64_t x = 0; x < f.W; x += STEP) {
      const int64_t stop = least(x + STEP, f.W);
      uint8_t most = 0;
      for (int64_t i = x; i < stop; ++i) most = Max::pick(most, dark[i]);
      if (most < threshold) continue;
      for (int64_t i = x; i < stop; ++i)
        if (dark[i] >= threshold)
          for (int c = 0; c < 3; ++c) ++counts[c * LEVELS + f.colour[c][y * f.stride + i]];
    }
  }
}

void squared_distance(CBYTES r, CBYTES g, CBYTES b, const float* A, ROW to, int64_t n) {
  const float ar = A[0], ag = A[1], ab = A[2];
  for (int64_t i = 0; i < n; ++i) {
    const float x = r[i] * (1 / 255.f) - ar, y = g[i] * (1 / 255.f) - ag, z = b[i] * (1 / 255.f) - ab;
    to[i] = x * x + y * y + z * z;
  }
}

void distance(const Frame& f, int64_t window, int64_t first, int64_t last, float* scratch) {
  const int64_t radius = window / 2, at = (radius + 15) / 16 * 16 - radius;  // the row itself is aligned
  float* line = scratch + at;
  float* other = line + (f.W + window + 31) / 16 * 16;
  for (int64_t y = first; y < last; ++y) {
    set(line, radius, float(Max::outside));
    const int64_t o = y * f.stride;
    squared_distance(f.colour[0] + o, f.colour[1] + o, f.colour[2] + o, f.A, line + radius, f.W);
    set(line + radius + f.W, radius, float(Max::outside));
    std::memcpy(f.order + o, along<Max>(line, other, f.W, window), f.W * sizeof(float));
  }
}

void root(ROW x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = Max::pick(std::sqrt(x[i]), SMALLEST);
}

void farthest(const Frame& f, int64_t window, int64_t first, int64_t last, float* scratch, float* extremes) {
  const int64_t n = last - first;
  constexpr int64_t LANES = 16;
  float low[LANES], high[LANES];
  set(low, LANES, extremes[0]);
  set(high, LANES, extremes[1]);
  down<Max>(f.order + first, f.stride, f.H, n, window, scratch, [&](float* row, int64_t) {
    root(row, n);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
      for (int64_t k = 0; k < LANES; ++k) {
        low[k] = Min::pick(low[k], row[i + k]);
        high[k] = Max::pick(high[k], row[i + k]);
      }
    for (; i < n; ++i) {
      low[0] = Min::pick(low[0], row[i]);
      high[0] = Max::pick(high[0], row[i]);
    }
  });
  for (int64_t k = 0; k < LANES; ++k) {
    extremes[0] = Min::pick(extremes[0], low[k]);
    extremes[1] = Max::pick(extremes[1], high[k]);
  }
}

// The largest Theta that keeps each pixel inside the colour cube, in units of max theta.
void limits(CBYTES r, CBYTES g, CBYTES b, CROW order, const float* A, const Map& m, ROW to, int64_t n) {
  float below[3], above[3];
  for (int c = 0; c < 3; ++c) {
    below[c] = 1 / Max::pick(A[c] - m.low, GUARD);
    above[c] = 1 / Max::pick(m.high - A[c], GUARD);
  }
  const float spread = m.nearest - m.farthest, unit = 1 / m.nearest, ar = A[0], ag = A[1], ab = A[2];
  const float b0 = below[0], b1 = below[1], b2 = below[2], a0 = above[0], a1 = above[1], a2 = above[2];
  const float lowest = m.farthest, highest = m.nearest, tiny = spread * 1e-12f;
  for (int64_t i = 0; i < n; ++i) {
    const float x = r[i] * (1 / 255.f) - ar, y = g[i] * (1 / 255.f) - ag, z = b[i] * (1 / 255.f) - ab;
    float bound = Max::pick(-x * b0, x * a0);
    bound = Max::pick(bound, Max::pick(-y * b1, y * a1));
    bound = Max::pick(bound, Max::pick(-z * b2, z * a2));
    bound = Max::pick(bound, 1e-9f);
    const float theta = Min::pick(Max::pick(order[i], lowest), highest);
    const float near = theta - lowest;  // w * spread
    // (theta / L - theta (1 - w)) / w / max theta, with both divisions in one
    to[i] = theta * (spread - bound * (highest - theta)) / (bound * Max::pick(near, tiny)) * unit;
  }
}

// Bins of u: the bits of a positive float rise with it, so that from 1 on they count bins that are even within an octave.
void bins(CROW u, uint32_t* __restrict where, int64_t n) {
  const uint32_t one = 0x3f800000u;
  for (int64_t i = 0; i < n; ++i) {
    const float inside = Min::pick(Max::pick(u[i], 0.5f), 1e6f);
    uint32_t bits;
    std::memcpy(&bits, &inside, 4);
    const uint32_t bin = (bits - one) >> BIN_SHIFT;
    where[i] = bits < one ? THETA_BINS + 1 : bin < THETA_BINS ? bin : THETA_BINS;
  }
}

void bounds(const Frame& f, const Map& m, int64_t first, int64_t last, float* scratch, uint32_t* counts) {
  uint32_t* where = reinterpret_cast<uint32_t*>(scratch + f.stride);
  for (int64_t y = first; y < last; ++y) {
    const int64_t o = y * f.stride;
    limits(f.colour[0] + o, f.colour[1] + o, f.colour[2] + o, f.order + o, f.A, m, scratch, f.W);
    bins(scratch, where, f.W);
    for (int64_t i = 0; i < f.W; ++i) ++counts[where[i]];
  }
}

void collect(const Frame& f, const Map& m, int64_t first, int64_t last, float* scratch, uint32_t bin, uint32_t next, float* to) {
  uint32_t* where = reinterpret_cast<uint32_t*>(scratch + f.stride);
  for (int64_t y = first; y < last; ++y) {
    const int64_t o = y * f.stride;
    limits(f.colour[0] + o, f.colour[1] + o, f.colour[2] + o, f.order + o, f.A, m, scratch, f.W);
    bins(scratch, where, f.W);
    for (int64_t x = 0; x < f.W; x += 16) {
      const int64_t stop = least(x + 16, f.W);
      uint32_t any = 0;
      for (int64_t i = x; i < stop; ++i) any |= (where[i] == bin) | (where[i] == next);
      if (!any) continue;
      for (int64_t i = x; i < stop; ++i)
        if (where[i] == bin || where[i] == next) *to++ = scratch[i];
    }
  }
}

void prepare_row(CBYTES r, CBYTES g, CBYTES b, ROW grey, ROW order, const Map& m, int64_t n) {
  const float spread = m.nearest - m.farthest, scale = spread > 0 ? 1 / spread : 0;
  const float lowest = m.farthest, highest = m.nearest, top = m.theta;
  for (int64_t i = 0; i < n; ++i) {
    grey[i] = r[i] * (0.298936f / 255) + g[i] * (0.587043f / 255) + b[i] * (0.114021f / 255);
    const float theta = Min::pick(Max::pick(order[i], lowest), highest);
    order[i] = theta / (theta + (theta - lowest) * scale * (top - theta));
  }
}

void prepare(const Frame& f, const Map& m, int64_t first, int64_t last) {
  for (int64_t y = first; y < last; ++y) {
    const int64_t o = y * f.stride;
    prepare_row(f.colour[0] + o, f.colour[1] + o, f.colour[2] + o, f.grey + o, f.order + o, m, f.W);
  }
}

void blend(CROW upper, CROW lower, float weight, ROW to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = upper[i] + (lower[i] - upper[i]) * weight;
}

void add_to(ROW to, CROW with, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] += with[i];
}

void add(ROW to, CROW a, CROW b, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = a[i] + b[i];
}

// Sums of 2 radius + 1 neighbours along a row: sums of 1, 2, 4, ... by doubling, those that make up the window added.
// `line` has n + 2 radius values, the scratch rows as many; the result is in `total`. No running sum, so no digits are lost.
void sum_along(CROW line, float* one, float* two, float* total, int64_t n, int64_t radius) {
  int64_t window = 2 * radius + 1, length = n + 2 * radius, offset = 0;
  const float* have = line;
  std::memcpy(total, line, n * sizeof(float));
  for (int64_t size = 1; size <= window; size *= 2) {
    if (window & size) {
      if (size > 1) add_to(total, have + offset, n);
      offset += size;
    }
    if (2 * size > window) break;
    float* to = have == one ? two : one;
    length -= size;
    add(to, have, have + size, length);
    have = to;
  }
}

// A strip of columns with the columns around it that its windows reach; beyond the image the sums stay zero.
struct Strip {
  int64_t first, last, radius, n, left, right, H;
  Strip(const Frame& f, int64_t first, int64_t last, int64_t radius)
      : first(first), last(last), radius(radius), n(last - first), left(most(0, first - radius)),
        right(least(f.W, last + radius)), H(f.H) {}
  int64_t line() const { return (n + 2 * radius + 31) / 16 * 16; }
  int64_t shift() const { return left - (first - radius); }
  int64_t reach() const { return right - left; }
  void columns(float* inverse, int64_t W) const {
    for (int64_t x = first; x < last; ++x)
      inverse[x - first] = 1.f / static_cast<float>(least(W - 1, x + radius) - most(0, x - radius) + 1);
  }
  float rows(int64_t y) const { return 1.f / static_cast<float>(least(H - 1, y + radius) - most(0, y - radius) + 1); }
};

void enter(CROW i, CROW p, ROW si, ROW sp, ROW sip, ROW sii, int64_t n) {
  for (int64_t k = 0; k < n; ++k) {
    si[k] += i[k];
    sp[k] += p[k];
    sip[k] += i[k] * p[k];
    sii[k] += i[k] * i[k];
  }
}

void move(CROW i, CROW p, CROW oi, CROW op, ROW si, ROW sp, ROW sip, ROW sii, int64_t n) {
  for (int64_t k = 0; k < n; ++k) {
    si[k] += i[k] - oi[k];
    sp[k] += p[k] - op[k];
    sip[k] += i[k] * p[k] - oi[k] * op[k];
    sii[k] += i[k] * i[k] - oi[k] * oi[k];
  }
}

void leave(CROW i, CROW p, ROW si, ROW sp, ROW sip, ROW sii, int64_t n) {
  for (int64_t k = 0; k < n; ++k) {
    si[k] -= i[k];
    sp[k] -= p[k];
    sip[k] -= i[k] * p[k];
    sii[k] -= i[k] * i[k];
  }
}

void lines(CROW si, CROW sp, CROW sip, CROW sii, CROW inverse, float rows, float eps, ROW slope, ROW offset, int64_t n) {
  for (int64_t k = 0; k < n; ++k) {
    const float share = inverse[k] * rows, i = si[k] * share, p = sp[k] * share;
    const float a = (sip[k] * share - i * p) / (sii[k] * share - i * i + eps);
    slope[k] = a;
    offset[k] = p - a * i;
  }
}

void fit(const Frame& f, const Map& m, int64_t first, int64_t last, float* scratch) {
  const Strip s(f, first, last, m.radius);
  const int64_t line = s.line();
  float *sums = scratch, *one = sums + 4 * line, *two = one + line, *total = two + line, *inverse = total + 4 * line;
  set(sums, 4 * line, 0.f);
  s.columns(inverse, f.W);
  const float *grey = f.grey + s.left, *t = f.order + s.left;
  float* at[4];
  for (int q = 0; q < 4; ++q) at[q] = sums + q * line + s.shift();
  for (int64_t y = -m.radius; y < f.H; ++y) {
    const int64_t in = y + m.radius, out = y - m.radius - 1;
    if (in < f.H && out >= 0)
      move(grey + in * f.stride, t + in * f.stride, grey + out * f.stride, t + out * f.stride, at[0], at[1], at[2], at[3],
           s.reach());
    else if (in < f.H)
      enter(grey + in * f.stride, t + in * f.stride, at[0], at[1], at[2], at[3], s.reach());
    else if (out >= 0)
      leave(grey + out * f.stride, t + out * f.stride, at[0], at[1], at[2], at[3], s.reach());
    if (y < 0) continue;
    for (int q = 0; q < 4; ++q) sum_along(sums + q * line, one, two, total + q * line, s.n, m.radius);
    lines(total, total + line, total + 2 * line, total + 3 * line, inverse, s.rows(y), m.eps, f.slope + y * f.stride + first,
          f.offset + y * f.stride + first, s.n);
  }
}

void accumulate(CROW in, CROW out, ROW sum, int64_t n) {
  for (int64_t k = 0; k < n; ++k) sum[k] += in[k] - out[k];
}

// t, kept in `t`, and the colours (I - A) / t + A; counts the pixels that leave [0, 1].
int64_t recover_row(CROW slope, CROW offset, CROW inverse, float rows, CROW grey, const uint8_t* const* colour, const float* A,
                    float least, ROW t, uint8_t* const* to, int64_t n) {
  for (int64_t k = 0; k < n; ++k) {
    const float share = inverse[k] * rows, found = slope[k] * share * grey[k] + offset[k] * share;
    t[k] = Min::pick(Max::pick(found, least), 1.f);
  }
  CBYTES r = colour[0];
  CBYTES g = colour[1];
  CBYTES b = colour[2];
  BYTES tr = to[0];
  BYTES tg = to[1];
  BYTES tb = to[2];
  const float ar = A[0] * 255, ag = A[1] * 255, ab = A[2] * 255;
  int32_t inside = 0;
  for (int64_t k = 0; k < n; ++k) {
    const float gain = 1 / t[k];
    const float x = (r[k] - ar) * gain + ar, y = (g[k] - ag) * gain + ag, z = (b[k] - ab) * gain + ab;
    const float low = Min::pick(Min::pick(x, y), z), high = Max::pick(Max::pick(x, y), z);
    inside += (low >= -1e-3f) & (high <= 255.001f);
    tr[k] = static_cast<uint8_t>(static_cast<int32_t>(Min::pick(Max::pick(x, 0.f), 255.f) + 0.5f));
    tg[k] = static_cast<uint8_t>(static_cast<int32_t>(Min::pick(Max::pick(y, 0.f), 255.f) + 0.5f));
    tb[k] = static_cast<uint8_t>(static_cast<int32_t>(Min::pick(Max::pick(z, 0.f), 255.f) + 0.5f));
  }
  return n - inside;
}

void put_together(CBYTES r, CBYTES g, CBYTES b, BYTES rgb, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    rgb[3 * i] = r[i];
    rgb[3 * i + 1] = g[i];
    rgb[3 * i + 2] = b[i];
  }
}

int64_t recover(const Frame& f, const Map& m, int64_t first, int64_t last, float* scratch, bool keep) {
  const Strip s(f, first, last, m.radius);
  const int64_t line = s.line();
  float *sums = scratch, *one = sums + 2 * line, *two = one + line, *total = two + line, *inverse = total + 2 * line;
  float* t = inverse + line;
  uint8_t* bytes = reinterpret_cast<uint8_t*>(t + line);
  uint8_t* to[3] = {bytes, bytes + line, bytes + 2 * line};
  set(sums, 2 * line, 0.f);
  s.columns(inverse, f.W);
  const float* planes[2] = {f.slope + s.left, f.offset + s.left};
  int64_t outside = 0;
  for (int64_t y = -m.radius; y < f.H; ++y) {
    const int64_t in = y + m.radius, out = y - m.radius - 1;
    for (int q = 0; q < 2; ++q) {
      float* at = sums + q * line + s.shift();
      const float* plane = planes[q];
      if (in < f.H && out >= 0)
        accumulate(plane + in * f.stride, plane + out * f.stride, at, s.reach());
      else if (in < f.H)
        for (int64_t k = 0; k < s.reach(); ++k) at[k] += plane[in * f.stride + k];
      else if (out >= 0)
        for (int64_t k = 0; k < s.reach(); ++k) at[k] -= plane[out * f.stride + k];
    }
    if (y < 0) continue;
    for (int q = 0; q < 2; ++q) sum_along(sums + q * line, one, two, total + q * line, s.n, m.radius);
    const int64_t o = y * f.stride + first;
    const uint8_t* colour[3] = {f.colour[0] + o, f.colour[1] + o, f.colour[2] + o};
    outside += recover_row(total, total + line, inverse, s.rows(y), f.grey + o, colour, f.A, m.least, t, to, s.n);
    put_together(to[0], to[1], to[2], f.out + (y * f.W + first) * 3, s.n);
    if (keep) std::memcpy(f.order + o, t, s.n * sizeof(float));
  }
  return outside;
}

template <int BY> void block_sums(CROW line, ROW to, int64_t by, float share, int64_t n) {
  const int64_t side = BY ? BY : by;
  for (int64_t x = 0; x < n; ++x) {
    float sum = 0;
    for (int64_t j = 0; j < side; ++j) sum += line[x * side + j];
    to[x] = sum * share;
  }
}

void shrink(const Frame& f, const Frame& small, int64_t by, int64_t first, int64_t last, float* scratch) {
  const float share = 1.f / static_cast<float>(by * by);
  for (int64_t y = first; y < last; ++y)
    for (int q = 0; q < 2; ++q) {
      const float* plane = q ? f.order : f.grey;
      std::memcpy(scratch, plane + y * by * f.stride, f.W * sizeof(float));
      for (int64_t i = 1; i < by; ++i) add_to(scratch, plane + least(y * by + i, f.H - 1) * f.stride, f.W);
      set(scratch + f.W, small.W * by - f.W, scratch[f.W - 1]);
      float* to = (q ? small.order : small.grey) + y * small.stride;
      by == 2 ? block_sums<2>(scratch, to, by, share, small.W) : block_sums<0>(scratch, to, by, share, small.W);
    }
}

void smooth(const Frame& small, const Map& m, int64_t first, int64_t last, float* scratch) {
  const Strip s(small, first, last, m.radius);
  const int64_t line = s.line();
  float *sum = scratch, *one = sum + line, *two = one + line, *total = two + line, *inverse = total + line;
  s.columns(inverse, small.W);
  for (int q = 0; q < 2; ++q) {
    const float* plane = (q ? small.offset : small.slope) + s.left;
    float* to = q ? small.order : small.grey;
    float* at = sum + s.shift();
    set(sum, line, 0.f);
    for (int64_t y = -m.radius; y < small.H; ++y) {
      const int64_t in = y + m.radius, out = y - m.radius - 1;
      if (in < small.H)
        for (int64_t k = 0; k < s.reach(); ++k) at[k] += plane[in * small.stride + k];
      if (out >= 0)
        for (int64_t k = 0; k < s.reach(); ++k) at[k] -= plane[out * small.stride + k];
      if (y < 0) continue;
      sum_along(sum, one, two, total, s.n, m.radius);
      const float rows = s.rows(y);
      for (int64_t k = 0; k < s.n; ++k) to[y * small.stride + first + k] = total[k] * inverse[k] * rows;
    }
  }
}

// Where the full pixel i lies between the centres of blocks: the first of two blocks, and the weight of the second.
struct Place {
  int64_t first, second;
  float weight;
  Place(int64_t i, int64_t by, int64_t blocks) {
    float at = (static_cast<float>(i) + 0.5f) / static_cast<float>(by) - 0.5f;
    at = Min::pick(Max::pick(at, 0.f), static_cast<float>(blocks - 1));
    first = least(static_cast<int64_t>(at), most(blocks - 2, 0));
    second = least(first + 1, blocks - 1);
    weight = at - static_cast<float>(first);
  }
};

// A row of block means grown to n pixels, linearly between the centres of the blocks.
template <int BY> void grow_row(CROW row, ROW to, int64_t by, int64_t n, int64_t blocks) {
  const int64_t side = BY ? BY : by, head = side / 2;  // the first pixel at or after the first centre
  const float step = 1.f / static_cast<float>(side), start = side % 2 ? 0.f : 0.5f * step;
  const int64_t whole = most(0, least(blocks - 1, (n - head) / side));
  set(to, least(head, n), row[0]);
  float* __restrict inner = to + head;
  for (int64_t b = 0; b < whole; ++b)
    for (int64_t j = 0; j < side; ++j)
      inner[b * side + j] = row[b] + (row[b + 1] - row[b]) * (start + static_cast<float>(j) * step);
  for (int64_t x = head + whole * side; x < n; ++x) {
    const Place place(x, side, blocks);
    to[x] = row[place.first] + (row[place.second] - row[place.first]) * place.weight;
  }
}

int64_t regrow(const Frame& f, const Frame& small, const Map& m, int64_t by, int64_t first, int64_t last, float* scratch,
               bool keep) {
  float *thin[2] = {scratch, scratch + small.stride}, *rest = scratch + 2 * small.stride, *wide[2] = {rest, rest + f.stride};
  float *ones = wide[1] + f.stride, *t = ones + f.stride;
  uint8_t* bytes = reinterpret_cast<uint8_t*>(t + f.stride);
  uint8_t* to[3] = {bytes, bytes + f.stride, bytes + 2 * f.stride};
  set(ones, f.W, 1.f);
  int64_t outside = 0;
  for (int64_t y = first; y < last; ++y) {
    const Place place(y, by, small.H);
    for (int q = 0; q < 2; ++q) {
      const float* plane = q ? small.order : small.grey;
      blend(plane + place.first * small.stride, plane + place.second * small.stride, place.weight, thin[q], small.W);
      by == 2 ? grow_row<2>(thin[q], wide[q], by, f.W, small.W) : grow_row<0>(thin[q], wide[q], by, f.W, small.W);
    }
    const int64_t o = y * f.stride;
    const uint8_t* colour[3] = {f.colour[0] + o, f.colour[1] + o, f.colour[2] + o};
    outside += recover_row(wide[0], wide[1], ones, 1.f, f.grey + o, colour, f.A, m.least, t, to, f.W);
    put_together(to[0], to[1], to[2], f.out + y * f.W * 3, f.W);
    if (keep) std::memcpy(f.order + o, t, f.W * sizeof(float));
  }
  return outside;
}

// Where a padded pixel comes from: the image mirrored at its edges, edges included.
int64_t mirrored(int64_t i, int64_t size) {
  i %= 2 * size;
  if (i < 0) i += 2 * size;
  return i < size ? i : 2 * size - 1 - i;
}

void tile_counts(const uint8_t* image, Axis rows, Axis columns, int64_t tile_row, uint32_t* counts) {
  const int64_t W = columns.size;
  for (int64_t tile = 0; tile < TILES; ++tile) {
    uint32_t banks[2][3][LEVELS] = {};
    const int64_t from = tile * columns.side - columns.before, to = from + columns.side;
    const int64_t inner = least(most(from, 0), W), outer = most(inner, least(to, W));
    for (int64_t i = 0; i < rows.side; ++i) {
      const uint8_t* row = image + mirrored(tile_row * rows.side - rows.before + i, rows.size) * W * 3;
      for (int64_t x = from; x < least(inner, to); ++x)
        for (int c = 0; c < 3; ++c) ++banks[0][c][row[mirrored(x, W) * 3 + c]];
      for (int64_t x = inner; x < outer; ++x)
        for (int c = 0; c < 3; ++c) ++banks[x & 1][c][row[x * 3 + c]];
      for (int64_t x = most(outer, from); x < to; ++x)
        for (int c = 0; c < 3; ++c) ++banks[0][c][row[mirrored(x, W) * 3 + c]];
    }
    for (int64_t k = 0; k < 3 * LEVELS; ++k) counts[tile * 3 * LEVELS + k] = (&banks[0][0][0])[k] + (&banks[1][0][0])[k];
  }
}

// The tiles before and after a place, counted from the first tile's centre.
struct Between {
  int64_t before, after;
  Between(Axis axis, int64_t at) {
    const int64_t tile = at < 0 ? -1 : at / axis.side;
    before = most(tile, 0);
    after = least(tile + 1, TILES - 1);
  }
};

void equalise(uint8_t* image, Axis rows, Axis columns, const float* maps, int64_t row, float* table) {
  const int64_t y = row + rows.before - rows.side / 2, W = columns.size;
  const Between tall(rows, y);
  const float down = static_cast<float>(((y % rows.side) + rows.side) % rows.side) / static_cast<float>(rows.side);
  blend(maps + tall.before * TILE_TABLE, maps + tall.after * TILE_TABLE, down, table, TILE_TABLE);
  uint8_t* line = image + row * W * 3;
  for (int64_t x = 0; x < W;) {
    const int64_t at = x + columns.before - columns.side / 2;
    const Between wide(columns, at);
    const int64_t into = ((at % columns.side) + columns.side) % columns.side, stop = least(W, x + columns.side - into);
    const float *a = table + wide.before * 3 * LEVELS, *b = table + wide.after * 3 * LEVELS;
    const float weight = static_cast<float>(into) / static_cast<float>(columns.side);
    const float step = 1 / static_cast<float>(columns.side);
    for (int64_t i = 0; x < stop; ++x, ++i) {
      const float w = weight + static_cast<float>(i) * step;
      for (int c = 0; c < 3; ++c) {
        const int64_t v = c * LEVELS + line[3 * x + c];
        line[3 * x + c] = static_cast<uint8_t>(static_cast<int32_t>(a[v] + (b[v] - a[v]) * w + 0.5f));
      }
    }
  }
}

}  // namespace

extern const DehazeKernels dehaze;
const DehazeKernels dehaze = {split, darkest, brightest, distance, farthest, bounds,      collect, prepare,
                              fit,   recover, shrink,    smooth,   regrow,   tile_counts, equalise};

}  // namespace SACCADE_ISA
}  // namespace saccade
