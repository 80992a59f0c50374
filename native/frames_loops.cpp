// See frames.h. The loops are bound by their scattered writes, so they are written once for every instruction set.
#include "frames.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace saccade {

namespace {

struct Window {
  int64_t first, last, start, stop;
};

Window window(const Recording& r, int64_t i) {
  const int64_t* s = r.spans + 4 * i;
  return {s[0], s[1], s[2], s[3]};
}

// Calls at(event, place) for the events of a window, place = y * W + x; the first event outside the sensor ends it.
template <class At> int64_t each(const Recording& r, const Window& w, At&& at) {
  const uint32_t H = static_cast<uint32_t>(r.H), W = static_cast<uint32_t>(r.W);
  for (int64_t i = w.first; i < w.last; ++i) {
    const uint32_t x = r.x[i], y = r.y[i];
    if ((x >= W) | (y >= H) | (r.p[i] > 1)) return i;
    at(i, static_cast<size_t>(y) * W + x);
  }
  return -1;
}

}  // namespace

int64_t count_frames(const Recording& r, bool once) {
  const size_t plane = static_cast<size_t>(r.H * r.W);
  for (int64_t k = 0; k < r.T; ++k) {
    float* out = r.out + 2 * plane * k;
    const int64_t wrong = once ? each(r, window(r, k), [&](int64_t i, size_t at) { out[r.p[i] * plane + at] = 1; })
                               : each(r, window(r, k), [&](int64_t i, size_t at) { out[r.p[i] * plane + at] += 1; });
    if (wrong >= 0) return wrong;
  }
  return -1;
}

int64_t last_polarity_frames(const Recording& r) {
  const size_t plane = static_cast<size_t>(r.H * r.W);
  for (int64_t k = 0; k < r.T; ++k) {
    float* out = r.out + 2 * plane * k;
    const int64_t wrong = each(r, window(r, k), [&](int64_t i, size_t at) {
      const float on = r.p[i];
      out[at] = 1 - on;
      out[plane + at] = on;
    });
    if (wrong >= 0) return wrong;
  }
  return -1;
}

int64_t voxel_frames(const Recording& r, int64_t bins, bool split) {
  const size_t plane = static_cast<size_t>(r.H * r.W), step = split ? 2 * plane : plane;
  const size_t frame = step * static_cast<size_t>(bins);
  for (int64_t k = 0; k < r.T; ++k) {
    const Window w = window(r, k);
    float* out = r.out + frame * k;
    const double span = static_cast<double>(w.stop - w.start);
    const double scale = span > 0 ? static_cast<double>(bins - 1) / span : 0;
    const int64_t wrong = each(r, w, [&](int64_t i, size_t at) {
      const double place = std::min(std::max(static_cast<double>(r.t[i] - w.start) * scale, 0.0), static_cast<double>(bins - 1));
      const int64_t bin = static_cast<int64_t>(place);
      const float right = static_cast<float>(place - static_cast<double>(bin)), left = 1 - right;
      float* to = out + bin * step + (split ? r.p[i] * plane : 0) + at;
      const float sign = split || r.p[i] ? 1.0f : -1.0f;
      *to += sign * left;
      if (bin + 1 < bins) to[step] += sign * right;
    });
    if (wrong >= 0) return wrong;
  }
  return -1;
}

int64_t count_and_time_frames(const Recording& r) {
  const size_t plane = static_cast<size_t>(r.H * r.W);
  for (int64_t k = 0; k < r.T; ++k) {
    const Window w = window(r, k);
    float* out = r.out + 4 * plane * k;
    const double span = static_cast<double>(w.stop - w.start);
    const int64_t wrong = each(r, w, [&](int64_t i, size_t at) {
      float* to = out + r.p[i] * plane + at;
      *to += 1;
      to[2 * plane] = span > 0 ? static_cast<float>(static_cast<double>(r.t[i] - w.start) / span) : 0.0f;
    });
    if (wrong >= 0) return wrong;
  }
  return -1;
}

int64_t age_frames(const Recording& r, int64_t* last) {
  const size_t plane = static_cast<size_t>(r.H * r.W);
  for (int64_t k = 0; k < r.T; ++k) {
    const Window w = window(r, k);
    const int64_t wrong = each(r, w, [&](int64_t i, size_t at) { last[r.p[i] * plane + at] = r.t[i]; });
    if (wrong >= 0) return wrong;
    float* out = r.out + 2 * plane * k;
    for (size_t i = 0; i < 2 * plane; ++i)
      out[i] = last[i] == NEVER ? std::numeric_limits<float>::infinity() : static_cast<float>(w.stop - last[i]);
  }
  return -1;
}

int64_t trajectory_frames(const Recording& r, const Trajectory& g) {
  const size_t plane = static_cast<size_t>(r.H * r.W);
  bool first = g.first;
  for (int64_t k = 0; k < r.T; ++k) {
    std::memset(g.counts, 0, 2 * plane * sizeof(uint32_t));
    const int64_t wrong = each(r, window(r, k), [&](int64_t i, size_t at) { ++g.counts[r.p[i] * plane + at]; });
    if (wrong >= 0) return wrong;
    float* out = r.out + 3 * plane * k;
    for (size_t i = 0; i < plane; ++i) {
      const uint32_t off = g.counts[i], on = g.counts[plane + i];
      const int fresh = (off && !g.seen[i]) + (on && !g.seen[plane + i]);
      const double now = first ? 0.0 : std::min(255.0, g.beta * g.trajectory[i] + g.alpha * fresh);
      g.trajectory[i] = now;
      g.seen[i] = off != 0;
      g.seen[plane + i] = on != 0;
      out[i] = static_cast<float>(static_cast<int>(now));
      out[plane + i] = static_cast<float>(static_cast<int>(std::min(255.0, g.alpha * off)));
      out[2 * plane + i] = static_cast<float>(static_cast<int>(std::min(255.0, g.alpha * on)));
    }
    first = false;
  }
  return -1;
}

}  // namespace saccade
