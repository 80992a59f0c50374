// Layers with weights, for input of any kind: rows of weights added where the input is not 0.
#include "synapse.h"

#include "convolution.h"

#include <algorithm>
#include <numeric>

namespace saccade::engine {

// Numbers: stride y, x, padding y, x, dilation y, x, groups. Arrays: weight [O, I / groups, kh, kw] or [O, I].
Synapse synapse_of(const Plan& plan, int wire) {
  const Record& r = plan.records[wire];
  const std::vector<int64_t>& n = r.numbers;
  const Array& w = r.arrays[0];
  const Sizes& from = plan.wires[r.inputs[0]].shape;
  const Sizes& to = plan.wires[wire].shape;
  Synapse s{};
  s.map = w.shape.size() == 4;
  s.out = w.shape[0];
  s.in = w.shape[1];
  s.kernel_y = s.map ? w.shape[2] : 1;
  s.kernel_x = s.map ? w.shape[3] : 1;
  if (s.map) s.geometry = {n[0], n[1], n[2], n[3], n[4], n[5], n[6]};
  s.height = s.map ? from[1] : 1;
  s.width = s.map ? from[2] : product(from) / from.back();
  s.out_height = s.map ? to[1] : 1;
  s.out_width = s.map ? to[2] : s.width;
  s.weight = &w;
  // between which the sums of some of the products lie
  const Wire& x = plan.wires[r.inputs[0]];
  const int64_t size = w.data.size() / s.out;
  for (int64_t o = 0; o < s.out; o++) {
    int64_t low = 0, high = 0;
    for (int64_t i = 0; i < size; i++) {
      const int64_t a = w.data[o * size + i] * std::min<int64_t>(x.low, 0), b = w.data[o * size + i] * std::max<int64_t>(x.high, 0);
      low += std::min(a, int64_t{0}) + std::min(b, int64_t{0});
      high += std::max(a, int64_t{0}) + std::max(b, int64_t{0});
    }
    s.low = std::min(s.low, low);
    s.high = std::max(s.high, high);
  }
  return s;
}

namespace {

template <class T> std::shared_ptr<std::vector<T>> ordered(const Synapse& s, bool depthwise) {
  const int64_t taps = s.taps(), out = s.out / s.geometry.groups;
  auto made = std::make_shared<std::vector<T>>(s.weight->data.size());
  for (int64_t o = 0; o < s.out; o++)
    for (int64_t c = 0; c < s.in; c++)
      for (int64_t tap = 0; tap < taps; tap++) {
        const int64_t g = o / out;
        const int64_t place = depthwise ? tap * s.out + o : ((g * taps + tap) * s.in + c) * out + o % out;
        (*made)[place] = static_cast<T>(s.at(o, c, tap));
      }
  return made;
}

void synapse(Plan& plan, int wire) {
  if (spikes_synapse(plan, wire) || levels_synapse(plan, wire) || bytes_synapse(plan, wire) || sums_synapse(plan, wire)) return;
  const int source = plan.records[wire].inputs[0];
  const Synapse s = synapse_of(plan, wire);
  const Geometry& g = s.geometry;
  const View from = plan.channels_last(source, s.map ? 0 : static_cast<int>(plan.wires[source].shape.size()) - 1);
  const Wire& w = plan.wires[wire];
  const bool wide = narrowest(s.low, s.high) == Type::i64;
  const bool depthwise = s.in == 1 && s.out == g.groups && s.map;
  const Type type = wide ? Type::i64 : Type::i32;
  const View made = s.map ? plan.allocate_map(wire, type) : plan.allocate(w, type);
  plan.wires[wire].view = made;
  const auto weights64 = wide ? ordered<int64_t>(s, depthwise) : nullptr;
  const auto weights32 = wide ? nullptr : ordered<int32_t>(s, depthwise);
  RowsJob job{};
  job.type = from.type;
  job.height = s.height, job.width = s.width, job.out_width = s.out_width;
  job.kernel_y = s.kernel_y, job.kernel_x = s.kernel_x;
  job.stride_y = g.stride_y, job.stride_x = g.stride_x, job.pad_y = g.pad_y, job.pad_x = g.pad_x;
  job.dilation_y = g.dilation_y, job.dilation_x = g.dilation_x;
  job.groups = g.groups, job.in = s.in, job.out = s.out / g.groups;
  job.wide = wide;
  Sizes places, strides;  // of rows of an input that is no map
  if (s.map) {
    job.row = from.stride[1], job.place = from.stride[2];
  } else {
    places.assign(from.size.begin(), from.size.end() - 1);
    strides.assign(from.stride.begin(), from.stride.end() - 1);
  }
  const int64_t T = w.steps, units = s.places();
  plan.add(wire, depthwise ? "depthwise" : "rows", T * units, [=, &plan](const Call& c, int64_t first, int64_t last) {
    RowsJob mine = job;
    mine.weights = wide ? static_cast<const void*>(weights64->data()) : weights32->data();
    while (first < last) {
      const int64_t t = first / units, begin = first % units;
      const char* x = plan.at(c, from) + t * from.step * bytes_of(from.type);
      char* y = plan.at(c, made) + t * made.step * bytes_of(made.type);
      int64_t end = std::min(units, begin + last - first);
      if (s.map) {
        mine.x = x, mine.y = y;
        (depthwise ? plan.kernels->depthwise : plan.kernels->rows)(mine, begin, end);
      } else {  // a row at a time, wherever it lies
        end = begin + 1;
        int64_t rest = begin, offset = 0;
        for (size_t i = places.size(); i-- > 0;) offset += rest % places[i] * strides[i], rest /= places[i];
        mine.x = x + offset * bytes_of(from.type);
        mine.y = y + begin * s.out * bytes_of(made.type);
        mine.width = 1;
        plan.kernels->rows(mine, 0, 1);
      }
      first += end - begin;
    }
  });
}

const Registered known{"synapse", synapse};

}  // namespace
}  // namespace saccade::engine
