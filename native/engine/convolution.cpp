#include "convolution.h"

#include <algorithm>
#include <chrono>
#include <cmath>
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
  std::vector<double> rates;  // at which candidates were timed
  std::vector<int32_t> where;
  Bits in, out;
  View sums;
  int64_t pool = 1, prepared = -1, choice = -1, state = -1;
};

// Between the rates at which it was timed, on a line.
double cost(const Candidate& k, const std::vector<double>& rates, double rate) {
  size_t i = 0;
  while (i + 2 < rates.size() && rate > rates[i + 1]) i++;
  return k.took[i] + (k.took[i + 1] - k.took[i]) * (rate - rates[i]) / std::max(rates[i + 1] - rates[i], 1e-6);
}

int cheapest(const std::vector<Candidate>& candidates, const std::vector<double>& rates, double rate) {
  int best = 0;
  for (size_t i = 1; i < candidates.size(); i++)
    if (cost(candidates[i], rates, rate) < cost(candidates[best], rates, rate)) best = static_cast<int>(i);
  return best;
}

// "events to 12 %, tables": what is taken at which rate.
std::string choice_of(const std::vector<Candidate>& candidates, const std::vector<double>& rates) {
  if (candidates.size() == 1) return candidates[0].name;
  std::string text;
  int now = cheapest(candidates, rates, 0);
  for (int percent = 1; percent <= 100; percent++) {
    const int next = cheapest(candidates, rates, percent / 100.0);
    if (next == now) continue;
    text += std::string(candidates[now].name) + " to " + std::to_string(percent) + " %, ";
    now = next;
  }
  return text + candidates[now].name;
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

// Times every kernel on random spikes, on some rows: the least of a few runs.
static void calibrate(Work& w) {
  const Block& layer = w.layer.block;
  const int64_t row = layer.T * layer.out_width * w.layer.synapse.out * w.layer.synapse.in * w.layer.synapse.taps();
  // at least 16 places, which some kernels compute together
  const int64_t least_rows = (16 / std::max<int64_t>(layer.out_width, 1) + w.pool - 1) / w.pool;
  const int64_t most_rows = std::max<int64_t>({1, least_rows, (int64_t{1} << 24) / std::max<int64_t>(row * w.pool, 1)});
  const int64_t rows = std::min(layer.out_height, w.pool * most_rows);
  const int64_t begin_row = (layer.out_height - rows) / 2 / w.pool * w.pool;
  const int64_t words = layer.T * layer.x_plane;
  int64_t room = 64, scratch = 64;
  for (const Candidate& k : w.candidates) room = std::max(room, k.room), scratch = std::max(scratch, k.scratch);
  const auto x = aligned(8 * words), prepared = aligned(room), mine = aligned(scratch + 4096);
  const auto sums = aligned(w.neurons ? 64 : 4 * layer.T * w.layer.synapse.places() * layer.out);
  const auto y = aligned(w.neurons ? 8 * layer.T * layer.y_plane : 64);
  uint64_t random = 88172645463325252u;
  for (double rate : RATES) {
    uint64_t* bits = static_cast<uint64_t*>(x.get());
    std::memset(bits, 0, 8 * words);
    int64_t set = 0;
    // some channels fire much more than others, as in trained networks: rates fall off exponentially
    std::vector<uint64_t> limits;
    for (int64_t c = 0; c < w.in.channels; c++) {
      const double share = (static_cast<double>(c * 7919 % w.in.channels) + 0.5) / static_cast<double>(w.in.channels);
      limits.push_back(static_cast<uint64_t>(std::min(0.95, -rate * std::log(share)) * 18446744073709551615.0));
    }
    for (int64_t t = 0; t < layer.T; t++)
      for (int64_t h = 0; h < w.in.height; h++)
        for (int64_t place = 0; place < w.in.width; place++)
          for (int64_t c = 0; c < w.in.channels; c++) {
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            if (random >= limits[c]) continue;
            const int64_t at = t * w.in.plane() + w.in.inside() + h * w.in.row() + place * w.in.words + c / 64;
            set++, bits[at] |= uint64_t{1} << c % 64;
          }
    // as many as there are; of channels that would fire more than always, some are missing
    w.rates.push_back(static_cast<double>(set) / static_cast<double>(layer.T * w.in.height * w.in.width * w.in.channels));
    for (Candidate& k : w.candidates) {
      Block b = layer;
      const Geometry& g = w.layer.synapse.geometry;
      b.x = bits + w.in.inside() - g.pad_y * w.in.row() - g.pad_x * w.in.words;
      b.prepared = prepared.get(), b.scratch = static_cast<char*>(mine.get()), b.weights = k.weights.get();
      b.sums = static_cast<int32_t*>(sums.get()), b.y = static_cast<uint64_t*>(y.get()), b.where = w.where.data();
      double least = 1e30;
      for (int round = 0; round < 4; round++) {
        const auto begin = std::chrono::steady_clock::now();
        if (k.prepare) k.prepare(b, 0, b.T * b.in_height);
        const auto middle = std::chrono::steady_clock::now();
        k.run(b, begin_row, begin_row + rows);  // in the middle: the first rows see less of the map
        const auto end = std::chrono::steady_clock::now();
        using Micro = std::chrono::duration<double, std::micro>;
        const double share = static_cast<double>(layer.out_height) / static_cast<double>(rows);
        least = std::min(least, Micro(middle - begin).count() + Micro(end - middle).count() * share);
      }
      k.took.push_back(least);
    }
  }
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
  if (-s.low > INT32_MAX || in.shape.empty() || s.map != (in.shape.size() == 3)) return false;  // bits of three axes are maps

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
      if (k[0] && k[2] == p && k[3] == p && k[4] == p && k[5] == 0 && k[6] == 0 && s.out_height % p == 0 &&
          s.out_width % p == 0)
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
  if (!plan.kernel.empty())
    for (Candidate& k : w.candidates)
      if (plan.kernel == k.name) {
        Candidate alone = std::move(k);
        w.candidates.clear();
        w.candidates.push_back(std::move(alone));
        break;
      }
  if (w.candidates.empty()) return false;

  if (w.neurons) {
    Bits& y = w.out;
    y.channels = s.out, y.height = s.out_height / w.pool, y.width = s.out_width / w.pool;
    y.words = b.padded_out / 64, y.border = plan.border(made);
    y.buffer = plan.buffer(plan.wires[made].steps * y.plane() * 8, true);
    for (int64_t place = 0; place < s.places(); place++)
      w.where.push_back(static_cast<int32_t>(y.inside() + place / s.out_width / w.pool * y.row() +
                                             place % s.out_width / w.pool * y.words));
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

  if (w.candidates.size() > 1) calibrate(w);

  Step& prepare = plan.add(made, "prepare", b.T * b.in_height, [work, &plan](const Call& c, int64_t first, int64_t last) {
    Block block = block_of(plan, *work, c);
    const Candidate& k = work->candidates[*plan.at<int32_t>(c, static_cast<int>(work->choice))];
    block.weights = k.weights.get();
    if (k.prepare) k.prepare(block, first, last);
  });
  prepare.before = [work, &plan](const Call& c) {
    *plan.at<int32_t>(c, static_cast<int>(work->choice)) =
        work->candidates.size() == 1 ? 0 : cheapest(work->candidates, work->rates, rate_of(plan, *work, c));
  };
  plan.used(static_cast<int>(w.choice)), plan.used(static_cast<int>(w.prepared)), plan.used(w.in.buffer);
  plan.add(made, choice_of(w.candidates, w.rates), s.out_height / w.pool,
           [work, &plan](const Call& c, int64_t first, int64_t last) {
    Block block = block_of(plan, *work, c);
    const Candidate& k = work->candidates[*plan.at<int32_t>(c, static_cast<int>(work->choice))];
    block.weights = k.weights.get();
    if (work->pool > 1) {
      const Bits& y = work->out;
      for (int64_t t = 0; t < block.T; t++)
        std::memset(block.y + t * y.plane() + y.inside() + first * y.row() - y.border * y.words, 0,
                    8 * (last - first) * y.row());
    }
    k.run(block, first * work->pool, last * work->pool);
  });
  return true;
}

}  // namespace saccade::engine
