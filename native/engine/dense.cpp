// Layers of bytes by dense products: which kernel computes them, with the levels of the neurons that follow.
#include "dense.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>

#include "convolution.h"

namespace saccade::engine {
namespace {

Dense ready(const DenseWork& w, const DenseChoice& k) {
  Dense l = k.layer;
  l.weights = k.weights.get(), l.thresholds = k.thresholds.data(), l.exact = w.thresholds.data(), l.start = k.start.data();
  l.signs = k.signs.empty() ? nullptr : k.signs.data();
  return l;
}

// Pieces of work of a step: rows that are made, or rows of tiles, which are two of them or one of those that are pooled.
int64_t units_of(const DenseWork& w, const DenseChoice& k) {
  const int64_t rows = w.layer.out_height;
  return w.layer.pooled || k.prepare ? (rows + 1) / 2 : rows;
}

// The kernel that takes least time on random bytes: the least of a few runs.
int fastest(const DenseWork& w) {
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
    const DenseChoice& k = w.choices[i];
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
  auto work = std::make_shared<DenseWork>();
  DenseWork& w = *work;
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
  for (DenseOffer offer : DENSE_OFFERS) {
    DenseChoice k;
    if (offer(plan, w, k)) w.choices.push_back(std::move(k));
  }
  if (w.choices.empty()) return false;
  for (DenseChoice& k : w.choices)
    if (plan.kernel == k.name) {
      DenseChoice alone = std::move(k);
      w.choices.clear();
      w.choices.push_back(std::move(alone));
      break;
    }
  w.in = plan.laid(record.inputs[0]);
  for (DenseChoice& k : w.choices) k.layer.x_row = s.map ? w.in.row : w.in.place, k.layer.x_place = w.in.place;
  if (reader > 0) {
    plan.skipped[reader] = plan.skipped[made] = true;
    const int64_t by = l.pooled ? 2 : 1;
    w.out = plan.lay(plan.wires[made].steps, s.out_height / by, s.out_width / by, l.padded_out, plan.border(made));
    for (DenseChoice& k : w.choices) k.layer.y_row = s.map ? w.out.row : w.out.place, k.layer.y_place = w.out.place;
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
    DenseChoice best = std::move(w.choices[fastest(w)]);
    w.choices.clear();
    w.choices.push_back(std::move(best));
  }
  const DenseChoice& k = w.choices[0];
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
