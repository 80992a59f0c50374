// saccade._native.Dehazing: the passes of dehazing in order, each over the threads. The caller (saccade/dehaze/native.py) checks
// shapes and types and keeps the pictures alive.
#include "dehaze.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/tuple.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <new>
#include <tuple>
#include <vector>

#include "kernels.h"
#include "parallel.h"

namespace nb = nanobind;

namespace saccade {
namespace {

constexpr int64_t STRIP = 640;        // columns of a strip of the guided filter: its sums stay in the first cache
constexpr int64_t EXTREME_STRIP = 128;
constexpr int64_t PARTS = 8;          // of the rows, for passes without neighbours

// Shares `count` items in chunks over the threads: work(first, last, chunk, scratch).
template <class Work> void shared(int64_t count, int64_t chunk, int threads, int64_t floats, const Work& work) {
  struct Context {
    int64_t count, chunk;
    const Work& work;
  } context{count, chunk, work};
  auto call = [](void* p, int64_t first, int64_t last, float* scratch) {
    const auto& c = *static_cast<Context*>(p);
    for (int64_t i = first; i < last; ++i) c.work(i * c.chunk, std::min(c.count, (i + 1) * c.chunk), i, scratch);
  };
  parallel((count + chunk - 1) / chunk, threads, floats, call, &context);
}

struct Free {
  void operator()(void* p) const { std::free(p); }
};

class Dehazing {
 public:
  // A picture's buffers: four planes of floats and four of bytes.
  Dehazing(int64_t H, int64_t W, int threads) : threads_(threads) {
    f_.H = H;
    f_.W = W;
    f_.stride = (W + 63) / 64 * 64;
    const int64_t plane = H * f_.stride;
    bytes_ = plane * (4 * sizeof(float) + 4);
    memory_.reset(std::aligned_alloc(64, static_cast<size_t>(bytes_)));
    if (!memory_) throw std::bad_alloc();
    float* floats = static_cast<float*>(memory_.get());
    f_.order = floats;
    f_.grey = floats + plane;
    f_.slope = floats + 2 * plane;
    f_.offset = floats + 3 * plane;
    uint8_t* bytes = reinterpret_cast<uint8_t*>(floats + 4 * plane);
    for (int c = 0; c < 3; ++c) f_.colour[c] = bytes + c * plane;
    f_.dark = bytes + 3 * plane;
  }

  int64_t bytes() const { return bytes_; }

  // Reads uint8 [H, W, 3]. window > 0: gives the airlight too (else what comes back means nothing).
  std::array<double, 3> load(uintptr_t image, int64_t window, double fraction) {
    nb::gil_scoped_release release;
    f_.in = reinterpret_cast<const uint8_t*>(image);
    shared(f_.H, rows(), threads_, row_scratch(f_.W, window), [&](int64_t first, int64_t last, int64_t, float* scratch) {
      k_.split(f_, window, first, last, scratch);
    });
    if (window == 0) return {};
    const int64_t strips = (f_.W + 4 * EXTREME_STRIP - 1) / (4 * EXTREME_STRIP);
    std::vector<uint32_t> counts(strips * LEVELS);
    const int64_t floats = column_scratch(EXTREME_STRIP, window);  // a strip of bytes is four times as wide
    shared(f_.W, 4 * EXTREME_STRIP, threads_, floats, [&](int64_t first, int64_t last, int64_t i, float* scratch) {
      k_.darkest(f_, window, first, last, scratch, &counts[i * LEVELS]);
    });
    const int64_t wanted = std::max<int64_t>(1, static_cast<int64_t>(fraction * static_cast<double>(f_.H * f_.W)));
    int threshold = LEVELS - 1;
    for (int64_t seen = 0;; --threshold) {
      for (int64_t i = 0; i < strips; ++i) seen += counts[i * LEVELS + threshold];
      if (seen >= wanted || threshold == 0) break;
    }
    std::vector<uint32_t> colours(parts() * 3 * LEVELS);
    shared(f_.H, rows(), threads_, 0, [&](int64_t first, int64_t last, int64_t i, float*) {
      k_.brightest(f_, threshold, first, last, &colours[i * 3 * LEVELS]);
    });
    std::array<double, 3> found{};
    for (int c = 0; c < 3; ++c) {
      std::array<int64_t, LEVELS> sum{};
      int64_t total = 0;
      for (int64_t i = 0; i < parts(); ++i)
        for (int64_t v = 0; v < LEVELS; ++v) sum[v] += colours[(i * 3 + c) * LEVELS + v];
      for (int64_t v : sum) total += v;
      found[c] = (rank(sum, (total - 1) / 2) + rank(sum, total / 2)) / 2.0 / 255.0;
    }
    return found;
  }

  // The depth order under an airlight: its smallest and largest value.
  std::tuple<double, double> order(std::array<double, 3> A, int64_t window) {
    nb::gil_scoped_release release;
    for (int c = 0; c < 3; ++c) f_.A[c] = static_cast<float>(A[c]);
    shared(f_.H, rows(), threads_, row_scratch(f_.W, window), [&](int64_t first, int64_t last, int64_t, float* scratch) {
      k_.distance(f_, window, first, last, scratch);
    });
    const int64_t strips = (f_.W + EXTREME_STRIP - 1) / EXTREME_STRIP;
    std::vector<std::array<float, 2>> extremes(strips, {1e30f, 0.f});
    const int64_t floats = column_scratch(EXTREME_STRIP, window);
    shared(f_.W, EXTREME_STRIP, threads_, floats, [&](int64_t first, int64_t last, int64_t i, float* scratch) {
      k_.farthest(f_, window, first, last, scratch, extremes[i].data());
    });
    float low = extremes[0][0], high = extremes[0][1];
    for (const auto& e : extremes) {
      low = std::min(low, e[0]);
      high = std::max(high, e[1]);
    }
    return {low, high};
  }

  // The eps-percentile of the largest Theta of each pixel (Hazen's rule), or 0 where that is far below `nearest`; and the share of
  // pixels whose largest Theta is below what was found, or below `nearest`. A histogram finds the bin, a second pass orders what is in it.
  std::tuple<double, double> theta(double farthest, double nearest, double eps, double low, double high) {
    nb::gil_scoped_release release;
    if (!(nearest > farthest)) return {nearest, 0.0};
    Map m;
    m.farthest = static_cast<float>(farthest);
    m.nearest = static_cast<float>(nearest);
    m.low = static_cast<float>(low);
    m.high = static_cast<float>(high);
    constexpr int64_t SIZE = THETA_BINS + 2;
    std::vector<uint32_t> counts(parts() * SIZE), sums(SIZE);
    shared(f_.H, rows(), threads_, 2 * f_.stride, [&](int64_t first, int64_t last, int64_t i, float* scratch) {
      k_.bounds(f_, m, first, last, scratch, &counts[i * SIZE]);
    });
    for (int64_t i = 0; i < parts(); ++i)
      for (int64_t bin = 0; bin < SIZE; ++bin) sums[bin] += counts[i * SIZE + bin];
    const int64_t n = f_.H * f_.W, below = sums[THETA_BINS + 1];
    const double place = std::clamp(eps * static_cast<double>(n) - 0.5, 0.0, static_cast<double>(n - 1));
    const int64_t rank = static_cast<int64_t>(place);
    const double share = static_cast<double>(below) / static_cast<double>(n);
    if (rank + 1 < below) return {0.0, share};
    const bool edge = rank < below;  // between the largest value below `nearest` and the first above it
    int64_t bin = edge ? THETA_BINS + 1 : 0, seen = edge ? 0 : below;
    while (bin < THETA_BINS && seen + sums[bin] <= rank) seen += sums[bin++];
    int64_t next = edge ? 0 : bin + 1;
    while (next < THETA_BINS && sums[next] == 0) ++next;
    if (next > THETA_BINS) next = bin;
    std::vector<int64_t> starts{0};
    for (int64_t i = 0; i < parts(); ++i)
      starts.push_back(starts.back() + counts[i * SIZE + bin] + (next != bin ? counts[i * SIZE + next] : 0));
    std::vector<float> values(starts.back());
    shared(f_.H, rows(), threads_, 2 * f_.stride, [&](int64_t first, int64_t last, int64_t i, float* scratch) {
      k_.collect(f_, m, first, last, scratch, static_cast<uint32_t>(bin), static_cast<uint32_t>(next), values.data() + starts[i]);
    });
    const auto at = values.begin() + (rank - seen);
    std::nth_element(values.begin(), at, values.end());
    const double here = *at, after = at + 1 == values.end() ? here : *std::min_element(at + 1, values.end());
    const double found = here + (after - here) * (place - static_cast<double>(rank));
    if (found < 1) return {nearest * found, share};
    const int64_t under = seen + std::count_if(values.begin(), values.end(), [&](float v) { return v < found; });
    return {nearest * found, static_cast<double>(under) / static_cast<double>(n)};
  }

  // Writes uint8 [H, W, 3]; returns the share of pixels that left the colour cube before they were clipped.
  double render(uintptr_t out, double farthest, double nearest, double theta, int64_t radius, double eps, double least,
                int64_t by, bool keep) {
    nb::gil_scoped_release release;
    f_.out = reinterpret_cast<uint8_t*>(out);
    Map m;
    m.farthest = static_cast<float>(farthest);
    m.nearest = static_cast<float>(nearest);
    m.theta = static_cast<float>(theta);
    m.eps = static_cast<float>(eps);
    m.least = static_cast<float>(least);
    m.radius = by > 1 ? std::max<int64_t>(1, (2 * radius + by) / (2 * by)) : radius;
    shared(f_.H, rows(), threads_, 0, [&](int64_t first, int64_t last, int64_t, float*) { k_.prepare(f_, m, first, last); });
    if (by > 1) return coarse(m, by, keep);
    const int64_t width = strip(f_.W);
    shared(f_.W, width, threads_, box_scratch(width, radius), [&](int64_t first, int64_t last, int64_t, float* scratch) {
      k_.fit(f_, m, first, last, scratch);
    });
    std::vector<int64_t> outside((f_.W + width - 1) / width);
    shared(f_.W, width, threads_, box_scratch(width, radius), [&](int64_t first, int64_t last, int64_t i, float* scratch) {
      outside[i] = k_.recover(f_, m, first, last, scratch, keep);
    });
    return share(outside);
  }

  // A plane as it stands: the order before render, the transmission after it (where it was kept). float32 [H, W].
  void copy_plane(uintptr_t to) const {
    for (int64_t y = 0; y < f_.H; ++y)
      std::copy_n(f_.order + y * f_.stride, f_.W, reinterpret_cast<float*>(to) + y * f_.W);
  }

 private:
  // The guided filter's lines fitted on means over blocks, grown again row by row.
  double coarse(const Map& m, int64_t by, bool keep) {
    Frame s;
    s.H = (f_.H + by - 1) / by;
    s.W = (f_.W + by - 1) / by;
    s.stride = (s.W + 63) / 64 * 64;
    const int64_t plane = s.H * s.stride;
    small_.resize(4 * plane);
    s.grey = small_.data();
    s.order = s.grey + plane;
    s.slope = s.order + plane;
    s.offset = s.slope + plane;
    const int64_t chunk = std::max<int64_t>(16, (s.H + PARTS - 1) / PARTS);
    shared(s.H, chunk, threads_, s.W * by, [&](int64_t first, int64_t last, int64_t, float* scratch) {
      k_.shrink(f_, s, by, first, last, scratch);
    });
    const int64_t width = strip(s.W);
    shared(s.W, width, threads_, box_scratch(width, m.radius), [&](int64_t first, int64_t last, int64_t, float* scratch) {
      k_.fit(s, m, first, last, scratch);
    });
    shared(s.W, width, threads_, box_scratch(width, m.radius), [&](int64_t first, int64_t last, int64_t, float* scratch) {
      k_.smooth(s, m, first, last, scratch);
    });
    std::vector<int64_t> outside(parts());
    shared(f_.H, rows(), threads_, 2 * s.stride + 6 * f_.stride, [&](int64_t first, int64_t last, int64_t i, float* scratch) {
      outside[i] = k_.regrow(f_, s, m, by, first, last, scratch, keep);
    });
    return share(outside);
  }

  double share(const std::vector<int64_t>& counts) const {
    int64_t sum = 0;
    for (int64_t count : counts) sum += count;
    return static_cast<double>(sum) / static_cast<double>(f_.H * f_.W);
  }

  // Columns of a strip: an even number of strips where there are several, so that two threads share them alike.
  static int64_t strip(int64_t W) {
    int64_t strips = (W + STRIP - 1) / STRIP;
    if (strips > 1) strips = (strips + 1) / 2 * 2;
    return ((W + strips - 1) / strips + 63) / 64 * 64;
  }

  int64_t rows() const { return std::max<int64_t>(16, (f_.H + PARTS - 1) / PARTS); }
  int64_t parts() const { return (f_.H + rows() - 1) / rows(); }
  static int64_t rank(const std::array<int64_t, LEVELS>& counts, int64_t place) {
    int64_t v = 0;
    for (int64_t seen = counts[0]; seen <= place && v + 1 < LEVELS; seen += counts[v]) ++v;
    return v;
  }

  const DehazeKernels& k_ = *chosen_kernels().dehaze;
  Frame f_;
  int threads_;
  int64_t bytes_ = 0;
  std::unique_ptr<void, Free> memory_;
  std::vector<float> small_;  // of the subsampled filter
};

Axis axis(int64_t size) {
  const int64_t side = (size + TILES - 1) / TILES, even = side + side % 2;
  return {size, even, (even * TILES - size) / 2};
}

int64_t clip_limit(int64_t pixels, double clip) {
  const int64_t flat = (pixels + LEVELS - 1) / LEVELS;
  return flat + static_cast<int64_t>(clip * static_cast<double>(pixels - flat) + 0.5);
}

// Cuts a histogram at the limit and deals out the excess as MATLAB does; saccade/dehaze/clahe.py has it in words.
void limit_counts(uint32_t* h, int64_t limit) {
  int64_t excess = 0;
  for (int64_t v = 0; v < LEVELS; ++v) excess += std::max<int64_t>(0, h[v] - limit);
  const int64_t share = excess / LEVELS;
  for (int64_t v = 0; v < LEVELS; ++v) {
    if (h[v] > limit - share) {
      if (h[v] <= limit) excess -= limit - h[v];
      h[v] = static_cast<uint32_t>(limit);
    } else {
      h[v] += static_cast<uint32_t>(share);
      excess -= share;
    }
  }
  for (int64_t start = 0; excess > 0; start = (start + 1) % LEVELS) {
    const int64_t step = std::max<int64_t>(LEVELS / excess, 1);
    for (int64_t v = start; v < LEVELS && excess > 0; v += step)
      if (h[v] < limit) {
        ++h[v];
        --excess;
      }
  }
}

// uint8 [H, W, 3], in place, each channel apart.
void clahe(uintptr_t image, int64_t H, int64_t W, double clip, int threads) {
  nb::gil_scoped_release release;
  const DehazeKernels& k = *chosen_kernels().dehaze;
  uint8_t* pixels = reinterpret_cast<uint8_t*>(image);
  const Axis rows = axis(H), columns = axis(W);
  const int64_t inside = rows.side * columns.side, limit = clip_limit(inside, clip);
  std::vector<uint32_t> counts(TILES * TILE_TABLE);
  std::vector<float> maps(TILES * TILE_TABLE);
  shared(TILES, 1, threads, 0, [&](int64_t tile_row, int64_t, int64_t, float*) {
    uint32_t* here = &counts[tile_row * TILE_TABLE];
    k.tile_counts(pixels, rows, columns, tile_row, here);
    for (int64_t t = 0; t < TILE_TABLE; t += LEVELS) {
      limit_counts(here + t, limit);
      int64_t sum = 0;
      for (int64_t v = 0; v < LEVELS; ++v) {
        sum += here[t + v];
        const double share = static_cast<double>(sum) / static_cast<double>(inside);
        maps[tile_row * TILE_TABLE + t + v] = static_cast<float>(std::min(1.0, share) * 255);
      }
    }
  });
  const int64_t chunk = std::max<int64_t>(16, (H + PARTS - 1) / PARTS);
  shared(H, chunk, threads, TILE_TABLE, [&](int64_t first, int64_t last, int64_t, float* table) {
    for (int64_t y = first; y < last; ++y) k.equalise(pixels, rows, columns, maps.data(), y, table);
  });
}

}  // namespace

void bind_dehazing(nb::module_& m) {
  nb::class_<Dehazing>(m, "Dehazing")
      .def(nb::init<int64_t, int64_t, int>())
      .def_prop_ro("bytes", &Dehazing::bytes)
      .def("load", &Dehazing::load)
      .def("order", &Dehazing::order)
      .def("theta", &Dehazing::theta)
      .def("render", &Dehazing::render)
      .def("copy_plane", &Dehazing::copy_plane);
  m.def("clahe", &clahe);
}

}  // namespace saccade
