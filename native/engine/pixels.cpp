// Layers of bytes, such as the first one: dense products, and for a picture that stands still no potentials at all.
#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <numeric>

#include "convolution.h"

namespace saccade::engine {
namespace {

using Wide = __int128;
constexpr int64_t NEVER = std::numeric_limits<int64_t>::max();

struct Work {
  Synapse synapse;
  Block block;
  Bytes bytes;
  std::unique_ptr<NeuronData> neurons;
  std::shared_ptr<void> weights;
  std::vector<int64_t> drives;
  std::vector<int32_t> narrow_drives;
  std::vector<uint8_t> classes;
  std::vector<int32_t> where;
  View in, sums;
  Bits out;
  int64_t pool = 1, prepared = -1;
};

// A field of a record at a place: arrays are repeated along axes of size 1.
int64_t field(const Array& a, const Sizes& shape, int64_t channel, int64_t place) {
  if (a.data.size() == 1) return a.data[0];
  Sizes at = {channel, place / shape[2], place % shape[2]}, size = a.shape;
  while (size.size() > 3) size.erase(size.begin());
  int64_t index = 0;
  for (size_t i = 0; i < size.size(); i++) {
    const int64_t axis = 3 - size.size() + i;
    index = index * size[i] + (size[i] > 1 ? at[axis] : 0);
  }
  return a.data[index];
}

int64_t dropped(Wide x, int64_t bits) { return static_cast<int64_t>((x + ((Wide{1} << bits) >> 1)) >> bits); }

// What follows a layer of a picture that stands still: [one sum] - neurons that are reset to 0.
struct Still {
  const Record* sum = nullptr;
  const Record* neuron = nullptr;
  int wire = -1;
};

Still still_of(const Plan& plan, int wire) {
  Still found;
  int at = plan.only_reader(wire);
  const auto shape = plan.wires[wire].shape;
  if (plan.streams || shape.size() != 3 || plan.wires[wire].steps != 1) return {};
  if (at > 0 && plan.records[at].kind == "combine" && plan.records[at].inputs.size() == 1 && plan.wires[at].shape == shape)
    found.sum = &plan.records[at], at = plan.only_reader(at);
  if (at > 0 && plan.records[at].kind == "hold") at = plan.only_reader(at);
  if (at <= 0 || plan.records[at].kind != "membrane" || plan.wires[at].shape != shape) return {};
  const Record& r = plan.records[at];
  for (int64_t amount : r.arrays[4].data)
    if (amount) return {};
  for (int64_t decay : r.arrays[2].data)
    if (decay < 0) return {};
  if (r.numbers[1] != Neuron::HARD || r.arrays[3].shape[0] != 1 || plan.wires[at].steps > 16) return {};
  found.neuron = &r, found.wire = at;
  return found;
}

// The least sum in low .. high that fires within steps 1 .. T, given a sum's effect on one output; NEVER where none does. Raising
// the sum (or, `turned`, lowering it) raises the potential at every step, so that there is one.
struct Output {
  int64_t scale, before, offset, after;  // of the sum between
  bool summed;
  int64_t factor, added, decay, shift, threshold;
  bool fires(int64_t x, int64_t within) const {
    if (summed) x = dropped(Wide{scale} * dropped(x, before) + offset, after);
    Wide v = 0;
    for (int64_t t = 0; t < within; t++) {
      v = ((v * decay + ((Wide{1} << shift) >> 1)) >> shift) + Wide{factor} * x + added;
      if (v >= threshold) return true;
    }
    return false;
  }
};

int64_t least(const Output& o, bool turned, int64_t within, int64_t low, int64_t high) {
  const int64_t sign = turned ? -1 : 1;
  if (!o.fires(sign * high, within)) return NEVER;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (o.fires(sign * middle, within))
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

bool drives_of(const Plan& plan, const Still& still, int wire, Work& w, std::vector<bool>& turned) {
  const Sizes& shape = plan.wires[wire].shape;
  const int64_t T = plan.wires[still.wire].steps, places = shape[1] * shape[2];
  turned.assign(shape[0], false);
  // places with the same constants are one class
  std::map<std::vector<int64_t>, int> known;
  const auto changes = [](const Array& a) { return a.shape.size() >= 2 && (a.shape.back() > 1 || a.shape[a.shape.size() - 2] > 1); };
  const std::vector<const Array*> constants = {&still.neuron->arrays[1], &still.neuron->arrays[3], still.sum ? &still.sum->arrays[0] : nullptr};
  w.classes.resize(places);
  for (int64_t place = 0; place < places; place++) {
    std::vector<int64_t> key;
    for (const Array* a : constants)
      if (a && changes(*a))
        for (int64_t c = 0; c < shape[0]; c++) key.push_back(field(*a, shape, c, place));
    const auto [at, fresh] = known.insert({key, static_cast<int>(known.size())});
    if (at->second > 63) return false;
    w.classes[place] = static_cast<uint8_t>(at->second);
    if (!fresh) continue;
    w.drives.resize((at->second + 1) * T * w.block.padded_out, NEVER);
    for (int64_t c = 0; c < shape[0]; c++) {
      Output o{};
      const Record& n = *still.neuron;
      o.factor = field(n.arrays[0], shape, c, place), o.added = field(n.arrays[1], shape, c, place);
      o.decay = field(n.arrays[2], shape, c, place), o.shift = n.numbers[0], o.threshold = field(n.arrays[3], shape, c, place);
      int64_t direction = o.factor;
      if (still.sum) {
        o.summed = true, o.before = still.sum->numbers[0], o.after = still.sum->numbers[1];
        o.offset = field(still.sum->arrays[0], shape, c, place), o.scale = field(still.sum->arrays[1], shape, c, place);
        direction = o.scale > 0 ? direction : o.scale < 0 ? -direction : 0;
      }
      if (fresh && at->second == 0) turned[c] = direction < 0;
      if (direction && turned[c] != (direction < 0)) return false;
      const int64_t low = std::min(w.synapse.low, -w.synapse.high), high = -low;
      const int64_t end = std::max(std::max(w.synapse.high, -w.synapse.low), high);
      for (int64_t k = 0; k < T; k++)
        w.drives[(at->second * T + k) * w.block.padded_out + c] = least(o, turned[c], k + 1, -end, end);
    }
  }
  return true;
}

}  // namespace

bool bytes_synapse(Plan& plan, int wire) {
  const Record& record = plan.records[wire];
  const Wire& in = plan.wires[record.inputs[0]];
  auto work = std::make_shared<Work>();
  Work& w = *work;
  Synapse& s = w.synapse;
  s = synapse_of(plan, wire);
  const Geometry& g = s.geometry;
  if (in.low < 0 || in.high > 255 || g.groups != 1 || !s.map || in.shape.size() != 3) return false;
  const BytesKernel& kernel = plan.kernels->bytes;
  Block& b = w.block;
  std::memset(static_cast<void*>(&b), 0, sizeof b);
  b.T = plan.wires[wire].steps, b.scale = 1;
  b.out = s.out, b.padded_out = (s.out + 63) / 64 * 64, b.out_height = s.out_height, b.out_width = s.out_width;
  b.kernel_y = s.kernel_y, b.kernel_x = s.kernel_x, b.stride_y = g.stride_y, b.stride_x = g.stride_x;
  b.dilation_y = g.dilation_y, b.dilation_x = g.dilation_x;
  b.in_height = s.height + 2 * g.pad_y, b.in_width = s.width + 2 * g.pad_x;
  // odd weights and the like: scale * unit + base, where units are bytes and weights are not
  int64_t largest = 0, divisor = 0, base = 0;
  for (int64_t x : s.weight->data) largest = std::max({largest, x, -x});
  for (int64_t x : s.weight->data) divisor = std::gcd(divisor, std::gcd(x + largest, -x + largest));  // signs may be turned
  divisor = std::max<int64_t>(divisor, 1);
  const int64_t span = 2 * largest / divisor;
  if (kernel.digit == 8 && divisor > 1 && span <= 255 && largest > 127 && narrowest(s.low, s.high) != Type::i64)
    base = -largest + divisor * ((span + 1) / 2);
  else
    divisor = 1;
  const auto unit = [=](int64_t x) { return (x - base) / divisor; };
  int64_t most = 0, low = 0, high = 0;
  for (int64_t x : s.weight->data) low = std::min({low, unit(x), unit(-x)}), high = std::max({high, unit(x), unit(-x)});
  most = std::max(-low, high);
  int64_t digits = 1;
  while (digits < 5 && most >= (int64_t{1} << (kernel.digit * digits - 1)) - (digits > 1 ? (int64_t{1} << (kernel.digit * (digits - 1))) : 0) &&
         !(digits == 1 && low >= -(int64_t{1} << (kernel.digit - 1)) && high < int64_t{1} << (kernel.digit - 1)))
    digits++;
  // sums of a digit must fit into 32 bits
  if (digits > 4 || (static_cast<int64_t>(s.weight->data.size()) / s.out + 4) * in.high > (int64_t{1} << 31 >> (kernel.digit - 1))) return false;
  const bool wide = narrowest(s.low, s.high) == Type::i64;

  std::vector<bool> turned(s.out, false);
  int made = wire;
  const Still still = still_of(plan, wire);
  if (still.neuron && drives_of(plan, still, wire, w, turned)) {
    for (int i = plan.only_reader(wire); i != still.wire; i = plan.only_reader(i)) plan.skipped[i] = true;
    made = still.wire;
    b.T = 1;
    if (!wide && s.high < INT32_MAX && -s.low < INT32_MAX)
      for (int64_t drive : w.drives) w.narrow_drives.push_back(static_cast<int32_t>(std::min<int64_t>(drive, INT32_MAX)));
  } else {
    w.drives.clear(), w.classes.clear();
    turned.assign(s.out, false);
    const int reader = wide ? -1 : plan.only_reader(wire);
    if (reader > 0 && plan.wires[reader].steps == plan.wires[wire].steps && plan.wires[reader].shape == plan.wires[wire].shape)
      w.neurons = neurons_of(plan, reader, s);
    if (w.neurons) {
      made = reader;
      w.neurons->point();
      for (int64_t o = 0; o < s.out; o++) turned[o] = w.neurons->turned[o];
      b.neuron = w.neurons->neuron;
      if (plan.streams && b.neuron.kind == Neuron::POTENTIAL64) b.state = reinterpret_cast<int64_t*>(plan.state(8 * s.places() * b.padded_out) + 1);
    }
  }
  if (made == wire && !base && sums_synapse(plan, wire)) return true;
  if (made != wire) {
    plan.skipped[made] = true;
    const int next = plan.keep ? -1 : plan.only_reader(made);
    if (next > 0 && plan.records[next].kind == "window") {
      const std::vector<int64_t>& k = plan.records[next].numbers;
      const int64_t p = k[1];
      if (k[0] && k[2] == p && k[3] == p && k[4] == p && k[5] == 0 && k[6] == 0 && s.out_height % p == 0 && s.out_width % p == 0)
        plan.skipped[made = next] = true, w.pool = p;
    }
    b.pooled = w.pool > 1;
    Bits& y = w.out;
    y.channels = s.out, y.height = s.out_height / w.pool, y.width = s.out_width / w.pool;
    y.words = b.padded_out / 64, y.border = plan.border(made);
    for (int64_t place = 0; place < s.places(); place++)
      w.where.push_back(static_cast<int32_t>(y.inside() + place / s.out_width / w.pool * y.row() + place % s.out_width / w.pool * y.words));
    b.y_plane = y.plane();
  }
  w.in = plan.view(record.inputs[0]);
  Bytes& p = w.bytes;
  p = Bytes{};
  p.channel = w.in.stride[0], p.row = w.in.stride[1], p.place = w.in.stride[2], p.step = w.in.step;
  p.channels = s.in, p.height = s.height, p.width = s.width, p.pad_y = g.pad_y, p.pad_x = g.pad_x, p.digits = digits;
  p.steps = plan.wires[made].steps;
  w.weights = aligned(kernel.weights_room(b, p));
  for (int64_t o = 0; o < s.out; o++)
    for (int64_t c = 0; c < s.in; c++)
      for (int64_t tap = 0; tap < s.taps(); tap++)
        kernel.set_weight(b, p, w.weights.get(), o, c, tap, unit(turned[o] ? -s.at(o, c, tap) : s.at(o, c, tap)));
  b.scale = static_cast<int32_t>(divisor), b.base = static_cast<int32_t>(base);
  w.prepared = plan.buffer(kernel.room(b, p));
  const int seen = base ? plan.buffer(4 * b.T * (s.places() + b.in_height * b.in_width)) : -1;
  if (made == wire) {
    w.sums = plan.allocate(plan.wires[wire], wide ? Type::i64 : Type::i32, Sizes{1, 2, 0});
    plan.wires[wire].view = w.sums;
  } else {
    w.out.buffer = plan.buffer(plan.wires[made].steps * w.out.plane() * 8, true);
    plan.wires[made].bits = w.out;
  }
  plan.scratch(kernel.scratch(b));
  const auto ready = [work, wide, seen, &plan](const Call& c, Block& b, Bytes& p) {
    b = work->block, p = work->bytes;
    p.x = reinterpret_cast<const uint8_t*>(plan.at(c, work->in));
    b.prepared = plan.at(c, static_cast<int>(work->prepared));
    b.scratch = c.scratch;
    b.weights = work->weights.get();
    if (seen >= 0) p.seen = plan.at<int32_t>(c, seen), p.places = p.seen + b.T * b.out_height * b.out_width;
    b.rest = c.done == 0;
    if (b.state) b.state = reinterpret_cast<int64_t*>(c.state + reinterpret_cast<intptr_t>(b.state) - 1);
    if (work->where.empty()) {
      if (wide)
        p.sums64 = reinterpret_cast<int64_t*>(plan.at(c, work->sums));
      else
        b.sums = reinterpret_cast<int32_t*>(plan.at(c, work->sums));
      return;
    }
    b.y = plan.at<uint64_t>(c, work->out.buffer);
    b.where = work->where.data();
    p.drives = work->drives.data();
    p.narrow_drives = work->narrow_drives.empty() ? nullptr : work->narrow_drives.data();
    p.classes = work->classes.empty() ? nullptr : work->classes.data();
  };
  plan.add(made, "prepare", b.T * b.in_height, [=, &kernel](const Call& c, int64_t first, int64_t last) {
    Block block;
    Bytes bytes;
    ready(c, block, bytes);
    kernel.prepare(block, bytes, first, last);
  });
  plan.used(static_cast<int>(w.prepared));
  if (seen >= 0) plan.used(seen);
  plan.add(made, w.drives.empty() ? "bytes" : "bytes, steps at once", s.out_height / w.pool, [=, &kernel](const Call& c, int64_t first, int64_t last) {
    Block block;
    Bytes bytes;
    ready(c, block, bytes);
    if (work->pool > 1) {
      const Bits& y = work->out;
      for (int64_t t = 0; t < bytes.steps; t++)
        std::memset(block.y + t * y.plane() + y.inside() + first * y.row() - y.border * y.words, 0, 8 * (last - first) * y.row());
    }
    kernel.run(block, bytes, first * work->pool, last * work->pool);
  });
  return true;
}

}  // namespace saccade::engine
