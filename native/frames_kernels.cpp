// See frames.h: scattered writes of the events of a window, then, where there is one, a pass over the pixels.
#include "frames.h"

#include <algorithm>

#include "simd.h"

namespace saccade {
namespace SACCADE_ISA {
namespace {

struct Window {
  int64_t first, last, start, stop;
};

Window window(const Recording& r, int64_t i) {
  const int64_t* s = r.spans + 4 * i;
  return {s[0], s[1], s[2], s[3]};
}

constexpr int64_t BLOCK = 512;  // events whose places are found together, by vectors

// Calls at(event, place, cell) for the events of a window: place = y * W + x, cell = polarity * H * W + place. A block of events
// with one outside the sensor ends it.
template <class At> int64_t each(const Recording& r, const Window& w, At&& at) {
  const uint32_t high = static_cast<uint32_t>(r.H), wide = static_cast<uint32_t>(r.W), plane = high * wide;
  uint32_t places[BLOCK], cells[BLOCK];
  for (int64_t first = w.first; first < w.last; first += BLOCK) {
    const int64_t count = std::min(BLOCK, w.last - first);
    const uint16_t* x = r.x + first;
    const uint16_t* y = r.y + first;
    const uint8_t* p = r.p + first;
    uint32_t outside = 0;
    for (int64_t j = 0; j < count; ++j) {
      outside |= (x[j] >= wide) | (y[j] >= high) | (p[j] > 1);
      places[j] = y[j] * wide + x[j];
      cells[j] = places[j] + p[j] * plane;
    }
    if (outside)
      for (int64_t j = 0; j < count; ++j)
        if (x[j] >= wide || y[j] >= high || p[j] > 1) return first + j;
    for (int64_t j = 0; j < count; ++j) at(first + j, places[j], cells[j]);
  }
  return -1;
}

// The frame that was scattered into scratch, to its place; scratch is zeros again.
void move_on(const Recording& r, int64_t k, size_t frame) {
  float* to = r.out + frame * k;
  size_t i = 0;
  for (; i + W <= frame; i += W) {
    store(to + i, load(r.scratch + i));
    store(r.scratch + i, V{});
  }
  for (; i < frame; ++i) to[i] = r.scratch[i], r.scratch[i] = 0;
}

int64_t count_frames(const Recording& r, bool once) {
  const size_t plane = static_cast<size_t>(r.H * r.W);
  for (int64_t k = 0; k < r.T; ++k) {
    float* out = r.scratch;
    const int64_t wrong = once ? each(r, window(r, k), [&](int64_t, uint32_t, uint32_t cell) { out[cell] = 1; })
                               : each(r, window(r, k), [&](int64_t, uint32_t, uint32_t cell) { out[cell] += 1; });
    if (wrong >= 0) return wrong;
    move_on(r, k, 2 * plane);
  }
  return -1;
}

int64_t last_polarity_frames(const Recording& r) {
  const size_t plane = static_cast<size_t>(r.H * r.W);
  for (int64_t k = 0; k < r.T; ++k) {
    float* out = r.scratch;
    const int64_t wrong = each(r, window(r, k), [&](int64_t i, uint32_t place, uint32_t) {
      const float on = r.p[i];
      out[place] = 1 - on;
      out[plane + place] = on;
    });
    if (wrong >= 0) return wrong;
    move_on(r, k, 2 * plane);
  }
  return -1;
}

int64_t voxel_frames(const Recording& r, int64_t bins, bool split) {
  const size_t plane = static_cast<size_t>(r.H * r.W), step = split ? 2 * plane : plane;
  const size_t frame = step * static_cast<size_t>(bins);
  for (int64_t k = 0; k < r.T; ++k) {
    const Window w = window(r, k);
    float* out = r.scratch;
    const double span = static_cast<double>(w.stop - w.start);
    const double scale = span > 0 ? static_cast<double>(bins - 1) / span : 0;
    const int64_t wrong = each(r, w, [&](int64_t i, uint32_t at, uint32_t cell) {
      const double place = std::min(std::max(static_cast<double>(r.t[i] - w.start) * scale, 0.0), static_cast<double>(bins - 1));
      const int64_t bin = static_cast<int64_t>(place);
      const float right = static_cast<float>(place - static_cast<double>(bin)), left = 1 - right;
      float* to = out + bin * step + (split ? cell : at);
      const float sign = split || r.p[i] ? 1.0f : -1.0f;
      *to += sign * left;
      if (bin + 1 < bins) to[step] += sign * right;
    });
    if (wrong >= 0) return wrong;
    move_on(r, k, frame);
  }
  return -1;
}

int64_t count_and_time_frames(const Recording& r) {
  const size_t plane = static_cast<size_t>(r.H * r.W);
  for (int64_t k = 0; k < r.T; ++k) {
    const Window w = window(r, k);
    float* out = r.scratch;
    const double span = static_cast<double>(w.stop - w.start);
    const int64_t wrong = each(r, w, [&](int64_t i, uint32_t, uint32_t cell) {
      float* to = out + cell;
      *to += 1;
      to[2 * plane] = span > 0 ? static_cast<float>(static_cast<double>(r.t[i] - w.start) / span) : 0.0f;
    });
    if (wrong >= 0) return wrong;
    move_on(r, k, 4 * plane);
  }
  return -1;
}

// e^(-(stop - last) / tau) of n pixels; 0 for those that never had an event. An age counts up to 2^31 us.
void faded(const int64_t* last, int64_t stop, float tau, float* out, int64_t n) {
  int32_t ages[W];
  int64_t i = 0;
  const auto some = [&](int64_t count) {
    for (int64_t j = 0; j < count; ++j) {
      const int64_t then = last[i + j];
      const int64_t age = stop - std::max(then, stop - INT32_MAX);
      ages[j] = then == NEVER ? -1 : static_cast<int32_t>(age);
    }
    I age;
    std::memcpy(&age, ages, sizeof age);
    const V x = __builtin_convertvector(age, V) / -tau;
    return age < 0 ? V{} : x < -87.f ? V{} : exponential(x);
  };
  for (; i + W <= n; i += W) store(out + i, some(W));
  if (i < n) store_part(out + i, some(n - i), n - i);
}

int64_t time_surface_frames(const Recording& r, int64_t* last, float tau) {
  const int64_t plane = r.H * r.W;
  for (int64_t k = 0; k < r.T; ++k) {
    const Window w = window(r, k);
    const int64_t wrong = each(r, w, [&](int64_t i, uint32_t, uint32_t cell) { last[cell] = r.t[i]; });
    if (wrong >= 0) return wrong;
    faded(last, w.stop, tau, r.out + 2 * plane * k, 2 * plane);
  }
  return -1;
}

typedef double D __attribute__((vector_size(8 * W)));  // as many numbers as a V: one float falls below a whole number too easily

ALWAYS D at_most_255(D v) { return v > 255.0 ? 255.0 - D{} : v; }
ALWAYS V whole(D v) { return __builtin_convertvector(__builtin_convertvector(v, I), V); }
typedef uint8_t B __attribute__((vector_size(W)));
ALWAYS B load_bytes(const uint8_t* p, int64_t n) { B v{}; std::memcpy(&v, p, n); return v; }
ALWAYS void store_bytes(uint8_t* p, B v, int64_t n) { std::memcpy(p, &v, n); }

ALWAYS V scaled(B v, float alpha) {
  const V exact = alpha * __builtin_convertvector(__builtin_convertvector(v, I), V);
  return __builtin_convertvector(__builtin_convertvector(exact > 255.f ? all(255.f) : exact, I), V);
}
ALWAYS D wide(B v) { return __builtin_convertvector(__builtin_convertvector(v, I), D); }

// One step of the recursion for n <= W pixels, all planes of which lie `plane` apart.
ALWAYS void step_trajectory(const Trajectory& g, int64_t at, int64_t plane, float* out, int64_t n) {
  const B off = load_bytes(g.counts + at, n), on = load_bytes(g.counts + plane + at, n);
  const B off_before = load_bytes(g.before + at, n), on_before = load_bytes(g.before + plane + at, n);
  const B fresh = (B)((off > 0) & (off_before == 0) & 1) + (B)((on > 0) & (on_before == 0) & 1);
  D now{};
  std::memcpy(&now, g.trajectory + at, n * sizeof(double));
  now = at_most_255(g.beta * now + g.alpha * wide(fresh));
  std::memcpy(g.trajectory + at, &now, n * sizeof(double));
  store_part(out + at, whole(now), n);
  store_part(out + plane + at, scaled(off, static_cast<float>(g.alpha)), n);
  store_part(out + 2 * plane + at, scaled(on, static_cast<float>(g.alpha)), n);
  store_bytes(g.before + at, off, n);
  store_bytes(g.before + plane + at, on, n);
  store_bytes(g.counts + at, B{}, n);
  store_bytes(g.counts + plane + at, B{}, n);
}

int64_t trajectory_frames(const Recording& r, const Trajectory& g) {
  const int64_t plane = r.H * r.W;
  for (int64_t k = 0; k < r.T; ++k) {
    const int64_t wrong = each(r, window(r, k), [&](int64_t, uint32_t, uint32_t cell) {
      g.counts[cell] = static_cast<uint8_t>(g.counts[cell] + (g.counts[cell] < 255));
    });
    if (wrong >= 0) return wrong;
    float* out = r.out + 3 * plane * k;
    int64_t at = 0;
    for (; at + W <= plane; at += W) step_trajectory(g, at, plane, out, W);
    if (at < plane) step_trajectory(g, at, plane, out, plane - at);
  }
  return -1;
}

}  // namespace

extern const FrameKernels frames;
const FrameKernels frames = {count_frames, last_polarity_frames, voxel_frames, count_and_time_frames, time_surface_frames,
                             trajectory_frames};

}  // namespace SACCADE_ISA
}  // namespace saccade
