// Layers of bytes by dense products: which kernel computes them, with the levels of the neurons that follow.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>

#include "convolution.h"

namespace saccade::engine {
namespace {

// A kernel for a layer, with weights in its order.
struct Choice {
  const char* name;
  std::shared_ptr<void> weights;
  std::vector<int32_t> thresholds, start, signs;
  std::function<void(const Dense&, int64_t first, int64_t last)> prepare, run;
  int64_t rows = 0, room = 64, scratch = 64;  // rows of `prepare`
  Dense layer;                                // with what is the kernel's own
};

enum class Makes { LEVELS, SUMS, SUMS64 };

struct Work {
  Synapse synapse;
  Makes makes = Makes::LEVELS;
  Dense layer;
  std::vector<int64_t> weights, thresholds;  // units; [levels][padded_out] of sums of units
  int64_t high = 0, low_sum = 0, high_sum = 0;
  std::vector<Choice> choices;
  Laid in{}, out{};
  View sums;
  int64_t prepared = -1;
  int64_t at(int64_t o, int64_t c, int64_t tap) const { return weights[(o * synapse.in + c) * synapse.taps() + tap]; }
};

int32_t narrow(int64_t x) { return static_cast<int32_t>(std::clamp<int64_t>(x, -INT32_MAX, INT32_MAX)); }

// Weights [matrix][16 outputs][word] of bytes, or pairs of 16 bits.
void set_weight(const Dense& l, void* weights, int64_t words, int64_t matrix, int64_t word, int64_t o, int64_t c, int64_t w) {
  const int64_t at = (matrix * l.padded_out / 16 + o / 16) * words + word;
  if (l.pairs)
    static_cast<int16_t*>(weights)[at * 64 + c % 4 / 2 * 32 + o % 16 * 2 + c % 2] = static_cast<int16_t>(w);
  else
    static_cast<int8_t*>(weights)[at * 64 + o % 16 * 4 + c % 4] = static_cast<int8_t>(w);
}
int64_t weights_room(const Dense& l, int64_t words, int64_t matrices) { return matrices * l.padded_out * words * (l.pairs ? 8 : 4) + 64; }

// Digits that hold all weights.
int64_t digits_of(const std::vector<int64_t>& weights, int bits) {
  const int64_t half = int64_t{1} << (bits - 1);
  int64_t most = 1;
  for (int64_t w : weights) {
    int64_t n = 0;
    for (; w || !n; n++) w = (w - (((w + half) & (2 * half - 1)) - half)) >> bits;
    most = std::max(most, n);
  }
  return most;
}

// Fewer digits, if each output may have its weights turned: their range has one end that is nearer to 0. None where that does not help.
std::vector<int32_t> turned_signs(const std::vector<int64_t>& weights, int64_t out, int64_t padded, int64_t digits, int bits) {
  const int64_t size = weights.size() / out;
  std::vector<int32_t> signs(padded, 0);
  for (int64_t o = 0; o < out; o++) {
    std::vector<int64_t> its(weights.begin() + o * size, weights.begin() + (o + 1) * size);
    if (digits_of(its, bits) < digits) continue;
    for (int64_t& x : its) x = -x;
    if (digits_of(its, bits) >= digits) return {};
    signs[o] = -1;
  }
  return signs;
}

// Products in the order of the taps.
bool dense(const Plan& plan, const Work& w, Choice& k) {
  const Synapse& s = w.synapse;
  Dense& l = k.layer = w.layer;
  int64_t size = 0;
  for (int64_t x : w.weights) size = std::max({size, x, -x - 1});
  size = size < 128 ? size + 1 : 128;
  l.most = plan.kernels->dense.most(std::max<int64_t>(w.high, 1), size);
  l.pairs = l.most < 4;
  const int bits = l.pairs ? 15 : 8;
  l.digits = digits_of(w.weights, bits);
  const int64_t words = s.taps() * l.words;
  if (l.digits > 4 || 4 * words * std::max<int64_t>(w.high, 1) > (INT32_MAX >> (bits - 1))) return false;
  const int64_t reach = std::max(w.high_sum, -w.low_sum);
  if (w.makes == Makes::LEVELS)
    while (reach >> (bits * l.dropped) >= INT32_MAX / 2) l.dropped++;
  if (l.digits > 1 && !l.dropped && w.makes != Makes::SUMS64) k.signs = turned_signs(w.weights, s.out, l.padded_out, l.digits, bits);
  if (!k.signs.empty()) l.digits--;
  if (l.dropped >= l.digits) return false;
  l.halves = s.out <= 8 && l.digits > 1;
  k.weights = aligned(weights_room(l, words, l.digits));
  const int64_t half = int64_t{1} << (bits - 1);
  for (int64_t o = 0; o < s.out; o++)
    for (int64_t c = 0; c < s.in; c++)
      for (int64_t tap = 0; tap < s.taps(); tap++) {
        int64_t x = w.at(o, c, tap) * (k.signs.empty() || !k.signs[o] ? 1 : -1);
        for (int64_t d = 0; d < l.digits; d++) {
          const int64_t digit = ((x + half) & (2 * half - 1)) - half;
          x = (x - digit) >> bits;
          if (l.halves)
            set_weight(l, k.weights.get(), words, d / 2, tap * l.words + c / 4, o + d % 2 * 8, c, digit);
          else
            set_weight(l, k.weights.get(), words, d, tap * l.words + c / 4, o, c, digit);
        }
      }
  for (int64_t theta : w.thresholds) {
    const int64_t unit = int64_t{1} << (bits * l.dropped), below = theta >> (bits * l.dropped);
    k.thresholds.push_back(narrow(below + (theta > below * unit)));
  }
  k.name = "dense";
  k.run = plan.kernels->dense.run;
  return true;
}

// Minimal filtering, where bytes hold all that it makes.
bool winograd(const Plan& plan, const Work& w, Choice& k) {
  const Synapse& s = w.synapse;
  const Geometry& g = s.geometry;
  const WinogradKernel& kernel = plan.kernels->winograd;
  if (s.kernel_y != 3 || s.kernel_x != 3 || g.stride_y != 1 || g.stride_x != 1 || g.dilation_y != 1 || g.dilation_x != 1) return false;
  // a row below the map is read where its height is odd
  if (w.high > 63 || !w.in.border) return false;
  const int64_t G[4][3] = {{2, 0, 0}, {1, 1, 1}, {1, -1, 1}, {0, 0, 2}};
  const auto filter = [&](int64_t o, int64_t c, int64_t i, int64_t j) {
    int64_t sum = 0;
    for (int64_t y = 0; y < 3; y++)
      for (int64_t x = 0; x < 3; x++) sum += G[i][y] * G[j][x] * w.at(o, c, y * 3 + x);
    return sum;
  };
  std::vector<int64_t> filters;  // [out][in][16]
  int64_t size = 1;
  for (int64_t x : w.weights)
    if (std::abs(x) > INT32_MAX) return false;
  for (int64_t o = 0; o < s.out; o++)
    for (int64_t c = 0; c < s.in; c++)
      for (int64_t i = 0; i < 16; i++) {
        filters.push_back(filter(o, c, i / 4, i % 4));
        size = std::max({size, filters.back(), -filters.back() - 1});
      }
  size = size < 128 ? size + 1 : 128;
  Dense& l = k.layer = w.layer;
  const int64_t high = std::max<int64_t>(w.high, 1), reach = std::max(w.high_sum, -w.low_sum);
  l.most = plan.kernels->dense.most(4 * high, size);
  l.pairs = l.most < 4;
  if (l.pairs) l.most = l.words;
  const int bits = l.pairs ? 15 : 8;
  l.digits = digits_of(filters, bits);
  l.shift = static_cast<uint8_t>(2 * high);
  // four times a sum without its lowest digit, and all sums of a digit, are to fit into 32 bits
  if (l.digits > 4 || 4 * l.words * 16 * high > (INT32_MAX >> (bits - 1)) || (l.digits == 1 && reach >= INT32_MAX / 8)) return false;
  if (reach >> (bits - 2) >= INT32_MAX / 4) return false;
  l.dropped = w.makes == Makes::LEVELS && reach >= INT32_MAX / 2;
  k.weights = aligned(weights_room(l, l.words, 16 * l.digits));
  k.start.assign(16 * l.digits * l.padded_out, 0);
  const int64_t half = int64_t{1} << (bits - 1);
  for (int64_t o = 0; o < s.out; o++)
    for (int64_t c = 0; c < s.in; c++)
      for (int64_t i = 0; i < 16; i++) {
        int64_t x = filters[(o * s.in + c) * 16 + i];
        for (int64_t d = 0; d < l.digits; d++) {
          const int64_t digit = ((x + half) & (2 * half - 1)) - half;
          x = (x - digit) >> bits;
          set_weight(l, k.weights.get(), l.words, d * 16 + i, c / 4, o, c, digit);
          if (i != 5) k.start[(d * 16 + i) * l.padded_out + o] -= static_cast<int32_t>(l.shift * digit);
        }
      }
  for (int64_t theta : w.thresholds) {
    if (l.digits == 1) {
      k.thresholds.push_back(narrow(4 * std::clamp<int64_t>(theta, -INT32_MAX, INT32_MAX)));
    } else {
      const int64_t by = l.dropped ? bits - 2 : 0, below = theta >> by;
      k.thresholds.push_back(narrow(below + (theta > below * (int64_t{1} << by))));
    }
  }
  l.tile_bytes = (4 * l.words + 63) / 64 * 64;
  k.rows = (s.out_height + 1) / 2;
  k.room = k.rows * ((s.out_width + 1) / 2) * 16 * l.tile_bytes + 64;
  k.scratch = kernel.scratch(l);
  k.name = "winograd";
  k.prepare = kernel.prepare;
  // rows that are pooled, or else rows of tiles
  k.run = kernel.run;
  return true;
}

using Offer = bool (*)(const Plan&, const Work&, Choice&);
const Offer OFFERS[] = {dense, winograd};

Dense ready(const Work& w, const Choice& k) {
  Dense l = k.layer;
  l.weights = k.weights.get(), l.thresholds = k.thresholds.data(), l.exact = w.thresholds.data(), l.start = k.start.data();
  l.signs = k.signs.empty() ? nullptr : k.signs.data();
  return l;
}

// Pieces of work of a step: rows that are made, or rows of tiles, which are two of them or one of those that are pooled.
int64_t units_of(const Work& w, const Choice& k) {
  const int64_t rows = w.layer.out_height;
  return w.layer.pooled || k.prepare ? (rows + 1) / 2 : rows;
}

// The kernel that takes least time on random bytes: the least of a few runs.
int fastest(const Work& w) {
  const Synapse& s = w.synapse;
  const auto x = aligned(w.in.step + 4096);
  uint64_t random = 88172645463325252u;
  for (int64_t i = 0; i < w.in.step; i++) {
    random ^= random << 13, random ^= random >> 7, random ^= random << 17;
    static_cast<uint8_t*>(x.get())[i] = static_cast<uint8_t>(random % (w.high + 1));
  }
  const auto y = aligned(std::max(8 * s.places() * s.out, w.out.step));
  int best = 0;
  double least = 1e30;
  for (size_t i = 0; i < w.choices.size(); i++) {
    const Choice& k = w.choices[i];
    const auto tiles = aligned(k.room), scratch = aligned(k.scratch);
    Dense l = ready(w, k);
    l.x = static_cast<const uint8_t*>(x.get()) + w.in.start - s.geometry.pad_y * w.in.row - s.geometry.pad_x * w.in.place;
    l.tiles = static_cast<uint8_t*>(tiles.get()), l.scratch = static_cast<char*>(scratch.get());
    if (w.makes == Makes::SUMS)
      l.sums = static_cast<int32_t*>(y.get());
    else if (w.makes == Makes::SUMS64)
      l.sums64 = static_cast<int64_t*>(y.get());
    else
      l.y = static_cast<uint8_t*>(y.get()) + w.out.start;
    for (int round = 0; round < 5; round++) {
      const auto begin = std::chrono::steady_clock::now();
      if (k.prepare) k.prepare(l, 0, k.rows);
      k.run(l, 0, units_of(w, k));
      const double took = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      if (took < least) least = took, best = static_cast<int>(i);
    }
  }
  return best;
}

// With levels of the neurons at `reader`, or sums where there is none.
bool build(Plan& plan, int wire, int reader) {
  const Record& record = plan.records[wire];
  const Wire& in = plan.wires[record.inputs[0]];
  auto work = std::make_shared<Work>();
  Work& w = *work;
  Synapse& s = w.synapse;
  s = synapse_of(plan, wire);
  const Geometry& g = s.geometry;
  if (in.low < 0 || in.high > 255 || g.groups != 1 || in.shape.empty() || in.shape.size() > (s.map ? 3 : 2)) return false;
  Dense& l = w.layer;
  std::memset(static_cast<void*>(&l), 0, sizeof l);
  l.out = s.out, l.padded_out = (s.out + 15) / 16 * 16, l.out_height = s.out_height, l.out_width = s.out_width;
  l.kernel_y = s.kernel_y, l.kernel_x = s.kernel_x, l.stride_y = g.stride_y, l.stride_x = g.stride_x;
  l.dilation_y = g.dilation_y, l.dilation_x = g.dilation_x;
  l.words = (s.in + 3) / 4;
  if (!s.map) l.out_height = s.out_width, l.out_width = 1;  // places are rows, so that threads can share them
  w.weights = s.weight->data;
  w.high = in.high, w.low_sum = s.low, w.high_sum = s.high;
  int made = wire;
  if (reader > 0) {
    std::vector<int64_t> sign;
    if (!numbers_by_channel(plan.records[reader].arrays[0], s.out, s.map, false, s.out, sign)) return false;
    if (!numbers_by_channel(plan.records[reader].arrays[1], s.out, s.map, true, l.padded_out, w.thresholds)) return false;
    l.levels = plan.records[reader].arrays[1].shape[0];
    const int64_t size = w.weights.size() / s.out;
    int64_t divisor = 0;
    for (int64_t x : w.weights) divisor = std::gcd(divisor, x);
    divisor = std::max<int64_t>(divisor, 1);
    for (int64_t o = 0; o < s.out; o++) {
      if (sign[o] != 1 && sign[o] != -1) return false;
      for (int64_t i = 0; i < size; i++) w.weights[o * size + i] *= sign[o], w.weights[o * size + i] /= divisor;
    }
    // sums of units reach what is divided and rounded up
    for (int64_t& theta : w.thresholds)
      if (theta != INT64_MAX) theta = theta / divisor + (theta > 0 && theta % divisor);
    w.low_sum = std::min(s.low, -s.high) / divisor, w.high_sum = -w.low_sum;
    made = reader;
  } else {
    w.makes = narrowest(s.low, s.high) == Type::i64 ? Makes::SUMS64 : Makes::SUMS;
  }
  int next = -1;
  if (reader > 0 && !plan.keep && s.map && (next = plan.only_reader(reader)) > 0) {
    const std::vector<int64_t>& k = plan.records[next].numbers;
    l.pooled = plan.records[next].kind == "window" && k == std::vector<int64_t>{1, 2, 2, 2, 2, 0, 0, k.back()} &&
               s.out_height % 2 == 0 && s.out_width % 2 == 0;
    if (l.pooled) made = next;
  }
  w.in.border = plan.border(record.inputs[0]);
  for (Offer offer : OFFERS) {
    Choice k;
    if (offer(plan, w, k)) w.choices.push_back(std::move(k));
  }
  if (w.choices.empty()) return false;
  for (Choice& k : w.choices)
    if (plan.kernel == k.name) {
      Choice alone = std::move(k);
      w.choices.clear();
      w.choices.push_back(std::move(alone));
      break;
    }
  w.in = plan.laid(record.inputs[0]);
  for (Choice& k : w.choices) k.layer.x_row = s.map ? w.in.row : w.in.place, k.layer.x_place = w.in.place;
  if (reader > 0) {
    plan.skipped[reader] = plan.skipped[made] = true;
    const int64_t by = l.pooled ? 2 : 1;
    w.out = plan.lay(plan.wires[made].steps, s.out_height / by, s.out_width / by, l.padded_out, plan.border(made));
    for (Choice& k : w.choices) k.layer.y_row = s.map ? w.out.row : w.out.place, k.layer.y_place = w.out.place;
    View v;
    v.type = Type::u8, v.buffer = w.out.buffer, v.start = w.out.start, v.size = plan.wires[made].shape;
    v.step = plan.wires[made].steps > 1 ? w.out.step : 0;
    v.stride = s.map ? Sizes{1, w.out.row, w.out.place} : v.size.size() == 2 ? Sizes{w.out.place, 1} : Sizes{1};
    plan.wires[made].view = v;
    plan.wires[made].laid = w.out;
  } else {
    const Type type = w.makes == Makes::SUMS ? Type::i32 : Type::i64;
    w.sums = s.map ? plan.allocate_map(wire, type) : plan.allocate(plan.wires[wire], type);
    plan.wires[wire].view = w.sums;
  }
  if (w.choices.size() > 1) {
    Choice best = std::move(w.choices[fastest(w)]);
    w.choices.clear();
    w.choices.push_back(std::move(best));
  }
  const Choice& k = w.choices[0];
  plan.scratch(k.scratch);
  const int64_t T = plan.wires[wire].steps, rows = k.rows, room = k.prepare ? (k.room + 63) / 64 * 64 : 0, units = units_of(w, k);
  if (room) w.prepared = plan.buffer(T * room);
  const auto step = [work, room, &plan](const Call& c, int64_t t) {
    const Geometry& g = work->synapse.geometry;
    Dense l = ready(*work, work->choices[0]);
    const Laid& in = work->in;
    l.x = plan.at<uint8_t>(c, in.buffer) + t * in.step + in.start - g.pad_y * in.row - g.pad_x * in.place;
    if (room) l.tiles = plan.at<uint8_t>(c, static_cast<int>(work->prepared)) + t * room;
    l.scratch = c.scratch;
    if (work->makes == Makes::SUMS)
      l.sums = reinterpret_cast<int32_t*>(plan.at(c, work->sums)) + t * work->sums.step;
    else if (work->makes == Makes::SUMS64)
      l.sums64 = reinterpret_cast<int64_t*>(plan.at(c, work->sums)) + t * work->sums.step;
    else
      l.y = plan.at<uint8_t>(c, work->out.buffer) + t * work->out.step + work->out.start;
    return l;
  };
  const auto pieces = [step](const Call& c, int64_t first, int64_t last, int64_t units, const auto& run) {
    while (first < last) {
      const int64_t t = first / units, begin = first % units, end = std::min(units, begin + last - first);
      run(step(c, t), begin, end);
      first += end - begin;
    }
  };
  if (k.prepare)
    plan.add(made, "prepare", T * rows, [=](const Call& c, int64_t first, int64_t last) { pieces(c, first, last, rows, work->choices[0].prepare); });
  plan.used(w.in.buffer);
  if (room) plan.used(static_cast<int>(w.prepared));
  plan.add(made, k.name, T * units, [=](const Call& c, int64_t first, int64_t last) { pieces(c, first, last, units, work->choices[0].run); });
  return true;
}

}  // namespace

bool levels_synapse(Plan& plan, int wire) {
  const int reader = plan.only_reader(wire);
  if (reader <= 0 || plan.records[reader].kind != "thresholds" || plan.wires[reader].steps != plan.wires[wire].steps) return false;
  const int64_t levels = plan.records[reader].arrays[1].shape[0];
  if (levels < 2 || levels > 255 || plan.wires[reader].shape != plan.wires[wire].shape) return false;
  return build(plan, wire, reader);
}

bool sums_synapse(Plan& plan, int wire) { return build(plan, wire, -1); }

}  // namespace saccade::engine
