#include "spikes.h"

#include <algorithm>

namespace saccade::engine {
namespace {

bool plain(const Array& a) { return a.data.size() == 1; }

// Values of up to three bits to one, as eight bits of a table; -1 if a sum of them can be anything but 0 and 1.
struct Logic {
  int table = -1;
  std::vector<int> inputs;
};

Logic logic_of(const Plan& plan, int wire) {
  const Record& r = plan.records[wire];
  Logic found{-1, r.inputs};
  const size_t n = r.inputs.size();
  if (n < 1 || n > 3) return found;
  for (int i : r.inputs) {
    const Wire& w = plan.wires[i];
    if (w.low < 0 || w.high > 1 || w.shape != plan.wires[wire].shape || w.steps != plan.wires[wire].steps) return found;
  }
  int table = 0;
  for (int bits = 0; bits < 8; bits++) {
    const int given[3] = {bits & 1, bits >> 1 & 1, bits >> 2 & 1};
    int64_t value = 0;
    if (r.kind == "multiply") {
      value = n == 2 ? given[0] * given[1] : -1;
    } else if (r.kind == "combine") {
      // the third may be the product of the first two, and is then nothing else
      const Record* last = n == 3 ? &plan.records[r.inputs[2]] : nullptr;
      const bool both = last && last->kind == "multiply" && std::is_permutation(last->inputs.begin(), last->inputs.end(), r.inputs.begin());
      if (both && given[2] != (given[0] & given[1])) continue;
      if (r.numbers.back() || !plain(r.arrays[0])) return found;
      value = r.arrays[0].data[0];
      for (size_t k = 0; k < n; k++) {
        if (r.numbers[k] || !plain(r.arrays[k + 1])) return found;
        value += r.arrays[k + 1].data[0] * given[k];
      }
    } else {
      return found;
    }
    if (value < 0 || value > 1) return found;
    table |= static_cast<int>(value) << bits;
  }
  found.table = table;
  return found;
}

Bits like(Plan& plan, int wire) {
  const Wire& w = plan.wires[wire];
  Bits made;
  const bool map = w.shape.size() == 3;
  made.channels = map ? w.shape[0] : w.shape.back();
  made.height = map ? w.shape[1] : 1;
  made.width = product(w.shape) / made.channels / made.height;
  made.words = (made.channels + 63) / 64;
  made.border = plan.border(wire);
  made.buffer = plan.buffer(w.steps * made.plane() * 8, true);
  return made;
}

}  // namespace

void narrow_logic(Plan& plan) {
  for (size_t i = 1; i < plan.wires.size(); i++)
    if (logic_of(plan, static_cast<int>(i)).table >= 0) plan.wires[i].low = 0, plan.wires[i].high = 1;
}

bool spikes_logic(Plan& plan, int wire) {
  const Logic logic = logic_of(plan, wire);
  if (logic.table < 0) return false;
  for (int i : logic.inputs)
    if (!plan.wires[i].bits) return false;
  Bits from[3];
  for (size_t k = 0; k < 3; k++) from[k] = plan.bits(logic.inputs[std::min(k, logic.inputs.size() - 1)], 0);
  // an operand that is not there is the last one again
  int table = 0;
  for (int bits = 0; bits < 8; bits++) {
    int at = bits;
    if (logic.inputs.size() < 3) at &= 3;
    if (logic.inputs.size() < 2) at &= 1;
    table |= (logic.table >> at & 1) << bits;
  }
  const Bits made = like(plan, wire);
  plan.wires[wire].bits = made;
  const uint64_t last = made.channels % 64 ? (uint64_t{1} << made.channels % 64) - 1 : ~uint64_t{0};
  plan.add(wire, "logic", plan.wires[wire].steps * made.height, [=, &plan](const Call& c, int64_t first, int64_t last_unit) {
    for (int64_t u = first; u < last_unit; u++) {
      const uint64_t* x[3];
      for (int k = 0; k < 3; k++)
        x[k] = plan.at<uint64_t>(c, from[k].buffer) + u / made.height * from[k].plane() + from[k].inside() + u % made.height * from[k].row();
      uint64_t* y = plan.at<uint64_t>(c, made.buffer) + u / made.height * made.plane() + made.inside() + u % made.height * made.row();
      for (int64_t i = 0; i < made.width * made.words; i++) {
        uint64_t word = 0;
        for (int bits = 0; bits < 8; bits++)
          if (table >> bits & 1)
            word |= (bits & 1 ? x[0][i] : ~x[0][i]) & (bits & 2 ? x[1][i] : ~x[1][i]) & (bits & 4 ? x[2][i] : ~x[2][i]);
        y[i] = i % made.words == made.words - 1 ? word & last : word;
      }
    }
  });
  return true;
}

bool spikes_window(Plan& plan, int wire) {
  const Record& r = plan.records[wire];
  const std::vector<int64_t> k = r.numbers;
  const Wire& in = plan.wires[r.inputs[0]];
  if (!k[0] || k[7] != 0 || !in.bits || in.shape.size() != 3) return false;
  const Bits from = plan.bits(r.inputs[0], 0);
  const Bits made = like(plan, wire);
  plan.wires[wire].bits = made;
  plan.add(wire, "or of windows", plan.wires[wire].steps * made.height, [=, &plan](const Call& c, int64_t first, int64_t last) {
    for (int64_t u = first; u < last; u++) {
      const int64_t t = u / made.height, oy = u % made.height;
      uint64_t* y = plan.at<uint64_t>(c, made.buffer) + t * made.plane() + made.inside() + oy * made.row();
      for (int64_t ox = 0; ox < made.width; ox++, y += made.words) {
        for (int64_t w = 0; w < made.words; w++) y[w] = 0;
        for (int64_t ky = 0; ky < k[1]; ky++)
          for (int64_t kx = 0; kx < k[2]; kx++) {
            const int64_t iy = oy * k[3] + ky - k[5], ix = ox * k[4] + kx - k[6];
            if (iy < 0 || iy >= from.height || ix < 0 || ix >= from.width) continue;
            const uint64_t* x = plan.at<uint64_t>(c, from.buffer) + t * from.plane() + from.inside() + iy * from.row() + ix * from.words;
            for (int64_t w = 0; w < made.words; w++) y[w] |= x[w];
          }
      }
    }
  });
  return true;
}

bool spikes_sum(Plan& plan, int wire) {
  const Record& r = plan.records[wire];
  const int source = r.inputs[0];
  const Wire& in = plan.wires[source];
  if (!in.bits || in.shape.size() != 3 || r.numbers != std::vector<int64_t>{1, 2}) return false;
  const Bits from = plan.bits(source, 0);
  const View made = plan.allocate(plan.wires[wire], narrowest(plan.wires[wire].low, plan.wires[wire].high));
  plan.wires[wire].view = made;
  plan.add(wire, "counts", plan.wires[wire].steps * from.words, [=, &plan](const Call& c, int64_t first, int64_t last) {
    for (int64_t u = first; u < last; u++) {
      const int64_t t = u / from.words, word = u % from.words;
      const int64_t n = std::min<int64_t>(64, from.channels - word * 64);
      int64_t count[64] = {};
      plan.kernels->count(plan.at<uint64_t>(c, from.buffer) + t * from.plane() + from.inside() + word, from.height, from.width,
                          from.row(), from.words, count);
      plan.kernels->narrow(count, n, plan.at(c, made) + (t * made.step + word * 64) * bytes_of(made.type), made.type, 1);
    }
  });
  return true;
}

}  // namespace saccade::engine
