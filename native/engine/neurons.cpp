#include "neurons.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace saccade::engine {
namespace {

using Wide = __int128;

// Numbers by channel of a field that does not change from place to place; false if it does.
bool by_channel(const Array& a, int64_t channels, bool map, bool levels, std::vector<int64_t>& to) {
  Sizes shape = a.shape;
  if (levels) {
    if (shape[0] != 1) return false;
    shape.erase(shape.begin());
  }
  const size_t from_end = map ? 3 : 1;  // the channel axis
  for (size_t i = 0; i < shape.size(); i++)
    if (shape[i] > 1 && shape.size() - i != from_end) return false;
  to.assign(channels, 0);
  for (int64_t c = 0; c < channels; c++) to[c] = a.data[a.data.size() == 1 ? 0 : c];
  return true;
}

int64_t floor_div(int64_t a, int64_t bits) { return a >> bits; }
int64_t ceil_div(Wide a, int64_t bits) { return static_cast<int64_t>((a + (Wide{1} << bits) - 1) >> bits); }

// One channel of a potential whose decay is a shift, from rest:
//     V <- ((V + half) >> shift) + (x << bits) + offset,  a spike at V >= threshold.
// A multiple of 2^(bits - shift k) made of the inputs and a rest made of the constants are halved apart, as long as
// shift k <= bits: (A + B + half) >> shift is (A >> shift) + ((B + half) >> shift). So a potential of fewer bits is the same
// neuron if, after every history of spikes, its least sum that fires is the same.
struct Channel {
  int64_t offset, threshold, amount;
};

bool same_spikes(const Channel& a, int64_t bits, const Channel& b, int64_t fewer, int64_t shift, int reset, int64_t T) {
  struct State {
    int64_t a, b, k;
  };
  const int64_t half = (int64_t{1} << shift) >> 1;
  std::vector<State> now{{0, 0, 0}};
  for (int64_t t = 0; t < T; t++) {
    std::vector<State> next;
    for (const State& s : now) {
      // k: steps since the inputs began to add up
      const int64_t u = ((s.a + half) >> shift) + a.offset, w = ((s.b + half) >> shift) + b.offset;
      const int64_t unit_a = bits - shift * s.k, unit_b = fewer - shift * s.k;
      if (unit_b < 0) return false;
      if (ceil_div(Wide{a.threshold} - u, unit_a) != ceil_div(Wide{b.threshold} - w, unit_b)) return false;
      const auto put = [&](State made) {
        for (const State& known : next)
          if (known.a == made.a && known.b == made.b && known.k == made.k) return;
        next.push_back(made);
      };
      put({u, w, s.k + 1});
      if (reset == Neuron::HARD) put({a.amount, b.amount, 0});
      if (reset == Neuron::SOFT) put({u - a.amount, w - b.amount, s.k + 1});
    }
    if (next.size() > 512) return false;
    now = std::move(next);
  }
  return true;
}

// Fewer bits for all channels, so that no potential leaves 32; false if there are none.
bool in_32_bits(NeuronData& d, const std::vector<int64_t>& offset, const std::vector<int64_t>& threshold,
                const std::vector<int64_t>& amount, int64_t bits, int64_t shift, int reset, int64_t T, int64_t low,
                int64_t high) {
  const size_t channels = offset.size();
  for (int64_t fewer = std::min(bits, shift * (T - 1)); fewer <= bits; fewer++) {
    const int64_t dropped = bits - fewer;
    std::vector<Channel> found;
    for (size_t c = 0; c < channels; c++) {
      const Channel whole{offset[c], threshold[c], amount[c]};
      bool good = false;
      for (int i = 0; i < 8 && !good; i++) {
        const Channel made{floor_div(offset[c], dropped) + (i & 1), floor_div(threshold[c], dropped) + (i >> 1 & 1),
                           floor_div(amount[c], dropped) + (i >> 2 & 1)};
        good = same_spikes(whole, bits, made, fewer, shift, reset, T);
        if (good) found.push_back(made);
      }
      if (!good) break;
    }
    if (found.size() < channels) continue;
    // how far potentials can go: as many steps of the largest drive, and what a reset leaves
    double reach = 0;
    for (const Channel& c : found) {
      const double drive = std::max(std::abs(double(low)), std::abs(double(high))) * std::ldexp(1.0, fewer) + std::abs(double(c.offset));
      const double growth = shift ? 2.0 : static_cast<double>(T);
      double size = drive * growth + T + std::abs(double(c.amount)) * (reset == Neuron::SOFT ? growth : 1.0);
      if (reset == Neuron::HARD) size += std::abs(double(c.amount));
      reach = std::max(reach, size);
    }
    if (reach >= 2147483000.0) return false;  // more bits are larger still
    const auto narrow = [](int64_t x) {
      return static_cast<int32_t>(std::clamp<int64_t>(x, std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max()));
    };
    for (size_t c = 0; c < channels; c++) {
      d.offset[c] = narrow(found[c].offset);
      d.threshold[c] = narrow(found[c].threshold);
      d.amount[c] = narrow(found[c].amount);
    }
    d.neuron.bits = static_cast<int>(fewer);
    return true;
  }
  return false;
}

}  // namespace

void NeuronData::point() {
  neuron.offset = offset.data(), neuron.threshold = threshold.data(), neuron.amount = amount.data();
  neuron.factor64 = factor64.data(), neuron.decay64 = decay64.data(), neuron.offset64 = offset64.data();
  neuron.threshold64 = threshold64.data(), neuron.amount64 = amount64.data();
}

std::unique_ptr<NeuronData> neurons_of(const Plan& plan, int wire, const Synapse& s) {
  const Record& r = plan.records[wire];
  const int64_t padded = (s.out + 63) / 64 * 64;
  auto d = std::make_unique<NeuronData>();
  d->turned.assign(s.out, false);
  d->offset.assign(padded, 0), d->amount.assign(padded, 0);
  d->threshold.assign(padded, std::numeric_limits<int32_t>::max());
  std::vector<int64_t> factor, offset, decay, threshold, amount;
  const auto get = [&](int i, std::vector<int64_t>& to, bool levels = false) {
    return by_channel(r.arrays[i], s.out, s.map, levels, to);
  };
  if (r.kind == "thresholds") {
    if (!get(0, factor) || !get(1, threshold, true)) return nullptr;
    d->neuron.kind = Neuron::THRESHOLD;
    for (int64_t c = 0; c < s.out; c++) {
      d->turned[c] = factor[c] < 0;
      // sums stay within 32 bits; a threshold at their end that none reaches would be one too low
      d->threshold[c] = static_cast<int32_t>(std::clamp<int64_t>(threshold[c], std::numeric_limits<int32_t>::min(),
                                                                 std::numeric_limits<int32_t>::max()));
    }
    return d;
  }
  if (r.kind != "membrane") return nullptr;
  if (!get(0, factor) || !get(1, offset) || !get(2, decay) || !get(3, threshold, true) || !get(4, amount)) return nullptr;
  const int64_t shift = r.numbers[0];
  d->neuron.reset = static_cast<int>(r.numbers[1]);
  d->neuron.shift = static_cast<int>(shift);
  // in 32 bits: decays of a power of two, all inputs with one factor of a power of two or its negative
  int64_t bits = -1;
  bool simple = !plan.streams && plan.T <= 16;
  for (int64_t c = 0; c < s.out && simple; c++) {
    const int64_t size = std::abs(factor[c]);
    if (decay[c] != 1 || size == 0 || (size & (size - 1)) || (bits >= 0 && size != int64_t{1} << bits)) simple = false;
    bits = size ? __builtin_ctzll(size) : bits;
  }
  if (simple && in_32_bits(*d, offset, threshold, amount, bits, shift, d->neuron.reset, plan.T, std::min(s.low, -s.high),
                           std::max(s.high, -s.low))) {
    d->neuron.kind = Neuron::POTENTIAL;
    for (int64_t c = 0; c < s.out; c++) d->turned[c] = factor[c] < 0;
    return d;
  }
  d->neuron.kind = Neuron::POTENTIAL64;
  factor.resize(padded, 0), offset.resize(padded, 0), decay.resize(padded, 0), amount.resize(padded, 0);
  threshold.resize(padded, std::numeric_limits<int64_t>::max());
  d->factor64 = factor, d->offset64 = offset, d->decay64 = decay, d->amount64 = amount, d->threshold64 = threshold;
  return d;
}

}  // namespace saccade::engine
