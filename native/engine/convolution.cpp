#include "convolution.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <numeric>

namespace saccade::engine {
namespace {

std::vector<Offer>& offers() {
  static std::vector<Offer> known;
  return known;
}

// What a layer's steps share.
struct Work {
  Layer layer;
  std::unique_ptr<NeuronData> neurons;
  std::vector<Candidate> candidates;
  std::vector<int32_t> where;
  Bits in, out;
  View sums;
  int64_t pool = 1, prepared = -1, choice = -1, state = -1;
};

int cheapest(const std::vector<Candidate>& candidates, double rate) {
  int best = 0;
  for (size_t i = 1; i < candidates.size(); i++)
    if (candidates[i].fixed + candidates[i].by_rate * rate < candidates[best].fixed + candidates[best].by_rate * rate)
      best = static_cast<int>(i);
  return best;
}

Block block_of(const Plan& plan, const Work& w, const Call& c) {
  Block b = w.layer.block;
  const Geometry& g = w.layer.synapse.geometry;
  b.x = plan.at<uint64_t>(c, w.in.buffer) + w.in.inside() - g.pad_y * w.in.row() - g.pad_x * w.in.words;
  b.prepared = plan.at(c, static_cast<int>(w.prepared));
  b.scratch = c.scratch;
  if (w.neurons) {
    b.neuron = w.neurons->neuron;
    b.y = plan.at<uint64_t>(c, w.out.buffer);
    b.where = w.where.data();
    b.state = w.state < 0 ? nullptr : reinterpret_cast<int64_t*>(c.state + w.state);
    b.rest = c.done == 0;
  } else {
    b.sums = reinterpret_cast<int32_t*>(plan.at(c, w.sums));
  }
  return b;
}

double rate_of(const Plan& plan, const Work& w, const Call& c) {
  int64_t spikes = 0;
  for (int64_t t = 0; t < w.layer.block.T; t++) {
    const uint64_t* x = plan.at<uint64_t>(c, w.in.buffer) + t * w.in.plane() + w.in.inside();
    spikes += plan.kernels->ones(x, w.in.height, w.in.width * w.in.words, w.in.row());
  }
  return static_cast<double>(spikes) / static_cast<double>(w.layer.block.T * w.in.height * w.in.width * w.in.channels);
}

}  // namespace

// The scale and base that make units small: as signed numbers around 0.
static void centre(Layer& l) {
  const auto [least, most] = std::minmax_element(l.weights.begin(), l.weights.end());
  int64_t divisor = 0;
  for (int64_t w : l.weights) divisor = std::gcd(divisor, w - *least);
  l.scale = std::max<int64_t>(divisor, 1);
  const int64_t span = (*most - *least) / l.scale;
  const bool fits = l.scale == 1 && ((*least >= -128 && *most <= 127) || span > 255);
  l.units(fits || l.scale > INT16_MAX ? 0 : *least + l.scale * ((span + 1) / 2));
}

void Layer::units(int64_t from) {
  base = from;
  if (!base && least == 0 && most == 0 && scale > INT16_MAX) scale = 1;
  if (base == 0)
    for (int64_t w : weights)
      if (w % scale) scale = 1;
  const int64_t size = weights.size() / synapse.out;
  least = most = low = high = 0;
  for (int64_t o = 0; o < synapse.out; o++) {
    int64_t down = 0, up = 0;
    for (int64_t i = 0; i < size; i++) {
      const int64_t u = (weights[o * size + i] - base) / scale;
      (u < 0 ? down : up) += u;
      least = std::min(least, u), most = std::max(most, u);
    }
    low = std::min(low, down), high = std::max(high, up);
  }
}

std::shared_ptr<void> aligned(int64_t bytes) {
  std::shared_ptr<void> made(std::aligned_alloc(64, (bytes + 127) / 64 * 64), std::free);
  std::memset(made.get(), 0, (bytes + 127) / 64 * 64);
  return made;
}

Offered::Offered(Offer offer) { offers().push_back(offer); }

bool spikes_synapse(Plan& plan, int wire) {
  const Record& record = plan.records[wire];
  const Wire& in = plan.wires[record.inputs[0]];
  auto work = std::make_shared<Work>();
  Work& w = *work;
  Synapse& s = w.layer.synapse;
  s = synapse_of(plan, wire);
  const Geometry& g = s.geometry;
  if (in.low < 0 || in.high > 1 || g.groups != 1 || narrowest(s.low, s.high) == Type::i64) return false;
  if (-s.low > INT32_MAX || in.shape.empty() || (s.map && in.shape.size() != 3)) return false;

  // neurons that alone read the sums go into the kernel, and a pooling that alone reads them
  const int reader = plan.only_reader(wire);
  int made = wire;
  if (reader > 0 && plan.wires[reader].steps == plan.wires[wire].steps && plan.wires[reader].shape == plan.wires[wire].shape)
    w.neurons = neurons_of(plan, reader, s);
  if (w.neurons) {
    plan.skipped[made = reader] = true;
    const int next = plan.keep ? -1 : plan.only_reader(reader);
    if (next > 0 && plan.records[next].kind == "window" && s.map) {
      const std::vector<int64_t>& k = plan.records[next].numbers;
      const int64_t p = k[1];
      if (k[0] && k[2] == p && k[3] == p && k[4] == p && k[5] == 0 && k[6] == 0 && s.out_height % p == 0 && s.out_width % p == 0)
        plan.skipped[made = next] = true, w.pool = p;
    }
    w.neurons->point();
  }
  w.layer.weights = s.weight->data;
  const int64_t size = w.layer.weights.size() / s.out;
  if (w.neurons)
    for (int64_t o = 0; o < s.out; o++)
      if (w.neurons->turned[o])
        for (int64_t i = 0; i < size; i++) w.layer.weights[o * size + i] *= -1;
  centre(w.layer);

  w.in = plan.bits(record.inputs[0], std::max(plan.border(record.inputs[0]), std::max(g.pad_y, g.pad_x)));
  Block& b = w.layer.block;
  std::memset(static_cast<void*>(&b), 0, sizeof b);
  b.T = plan.wires[wire].steps;
  b.out = s.out, b.padded_out = (s.out + 63) / 64 * 64, b.out_height = s.out_height, b.out_width = s.out_width;
  b.kernel_y = s.kernel_y, b.kernel_x = s.kernel_x, b.stride_y = g.stride_y, b.stride_x = g.stride_x;
  b.dilation_y = g.dilation_y, b.dilation_x = g.dilation_x;
  b.in_height = s.height + 2 * g.pad_y, b.in_width = s.width + 2 * g.pad_x;
  b.words = w.in.words, b.x_row = w.in.row(), b.x_plane = w.in.plane();
  b.pooled = w.pool > 1;
  if (w.neurons) b.neuron = w.neurons->neuron;
  for (Offer offer : offers()) offer(plan, w.layer, w.candidates);
  if (w.candidates.empty()) return false;

  if (w.neurons) {
    Bits& y = w.out;
    y.channels = s.out, y.height = s.out_height / w.pool, y.width = s.out_width / w.pool;
    y.words = b.padded_out / 64, y.border = plan.border(made);
    y.buffer = plan.buffer(plan.wires[made].steps * y.plane() * 8, true);
    for (int64_t place = 0; place < s.places(); place++)
      w.where.push_back(static_cast<int32_t>(y.inside() + place / s.out_width / w.pool * y.row() + place % s.out_width / w.pool * y.words));
    b.y_plane = y.plane();
    if (plan.streams && w.neurons->neuron.kind == Neuron::POTENTIAL64) w.state = plan.state(8 * s.places() * b.padded_out);
    plan.wires[made].bits = y;
  } else {
    w.sums = plan.allocate(plan.wires[wire], Type::i32, s.map ? Sizes{1, 2, 0} : Sizes{});
    plan.wires[wire].view = w.sums;
  }
  int64_t room = 64;
  for (const Candidate& k : w.candidates) room = std::max(room, k.room), plan.scratch(k.scratch);
  w.prepared = plan.buffer(room);
  w.choice = plan.buffer(64);
  std::string names;
  for (const Candidate& k : w.candidates) names += (names.empty() ? "" : " | ") + std::string(k.name);

  Step& prepare = plan.add(made, "prepare", b.T * b.in_height, [work, &plan](const Call& c, int64_t first, int64_t last) {
    Block block = block_of(plan, *work, c);
    const Candidate& k = work->candidates[*plan.at<int32_t>(c, static_cast<int>(work->choice))];
    block.weights = k.weights.get();
    if (k.prepare) k.prepare(block, first, last);
  });
  prepare.before = [work, &plan](const Call& c) {
    *plan.at<int32_t>(c, static_cast<int>(work->choice)) =
        work->candidates.size() == 1 ? 0 : cheapest(work->candidates, rate_of(plan, *work, c));
  };
  plan.used(static_cast<int>(w.choice)), plan.used(static_cast<int>(w.prepared)), plan.used(w.in.buffer);
  plan.add(made, names, s.out_height / w.pool, [work, &plan](const Call& c, int64_t first, int64_t last) {
    Block block = block_of(plan, *work, c);
    const Candidate& k = work->candidates[*plan.at<int32_t>(c, static_cast<int>(work->choice))];
    block.weights = k.weights.get();
    if (work->pool > 1) {
      const Bits& y = work->out;
      for (int64_t t = 0; t < block.T; t++)
        std::memset(block.y + t * y.plane() + y.inside() + first * y.row() - y.border * y.words, 0, 8 * (last - first) * y.row());
    }
    k.run(block, first * work->pool, last * work->pool);
  });
  return true;
}

namespace {

// Weights [tap][channel of the padded words][padded outputs].
template <class W> std::shared_ptr<void> rows_of(const Layer& l) {
  const Block& b = l.block;
  const int64_t taps = l.synapse.taps(), channels = b.words * 64;
  const std::shared_ptr<void> made = aligned(taps * channels * b.padded_out * sizeof(W));
  for (int64_t tap = 0; tap < taps; tap++)
    for (int64_t c = 0; c < l.synapse.in; c++)
      for (int64_t o = 0; o < b.out; o++)
        static_cast<W*>(made.get())[(tap * channels + c) * b.padded_out + o] = static_cast<W>(l.unit(o, c, tap));
  return made;
}

void offer_events(const Plan& plan, const Layer& l, std::vector<Candidate>& to) {
  const Block& b = l.block;
  const int64_t channels = b.words * 64;
  if (b.in_width * channels > 65535 || l.synapse.taps() * channels > 65535) return;
  const EventKernel kernel = plan.kernels->events;
  const int64_t size = std::max(-l.least, l.most);
  const int bytes = l.least >= -128 && l.most <= 127 ? 1 : size <= 32767 ? 2 : 4;
  const bool bounded = l.low >= -32768 && l.high <= 32767;
  const int64_t all = l.synapse.taps() * channels;
  const bool small = bytes == 1 && size <= 15 && bounded;
  const int64_t most = small ? 127 / std::max<int64_t>(size, 1) : bounded ? all : 32767 / 128;
  Candidate k;
  k.name = "events";
  k.weights = bytes == 1 ? rows_of<int8_t>(l) : bytes == 2 ? rows_of<int16_t>(l) : rows_of<int32_t>(l);
  k.prepare = kernel.prepare;
  const int32_t scale = static_cast<int32_t>(l.scale), base = static_cast<int32_t>(l.base);
  k.run = [=](Block& block, int64_t first, int64_t last) {
    block.scale = scale, block.base = base;
    kernel.run(block, bytes, small, most, first, last);
  };
  k.room = kernel.room(b), k.scratch = kernel.scratch(b);
  to.push_back(std::move(k));
}

const Offered events(offer_events);

}  // namespace
}  // namespace saccade::engine
