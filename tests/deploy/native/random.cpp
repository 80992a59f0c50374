// A layer of any size and width of weights, what follows it, and input of some rate.
#include <algorithm>

#include "check.h"

using namespace saccade::engine;

namespace {

struct Random {
  uint64_t state;
  uint64_t next() {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state * 0x2545f4914f6cdd1du;
  }
  int64_t within(int64_t low, int64_t high) {
    return low + static_cast<int64_t>((next() >> 11) % static_cast<uint64_t>(high - low + 1));
  }
  int64_t of(std::initializer_list<int64_t> choices) {
    return choices.begin()[within(0, static_cast<int64_t>(choices.size()) - 1)];
  }
};

Array array(Sizes shape, std::vector<int64_t> data) { return {std::move(shape), std::move(data)}; }

template <class F> std::vector<int64_t> each(int64_t n, F&& f) {
  std::vector<int64_t> made(n);
  for (int64_t& x : made) x = f();
  return made;
}

}  // namespace

Given random_layer(uint64_t seed) {
  Random r{seed * 2654435761u + 88172645463325252u};
  for (int i = 0; i < 8; i++) r.next();
  Given g;
  g.name = "layer " + std::to_string(seed);
  g.T = r.of({1, 2, 3, 4, 5, 8}), g.N = r.within(1, 2);
  const bool filtered = seed % 8 == 0;  // a layer that minimal filtering takes
  const int64_t groups = r.of({1, 1, 1, 1, 1, 1, filtered});
  const int64_t high = filtered ? r.of({2, 4, 15, 50}) : r.of({1, 1, 1, 1, 3, 15, 100, 255});
  int64_t c = r.of({1, 3, 16, 40, 64, 65, 130, 256}), o = r.of({1, 3, 16, 40, 64, 65, 130, 256});
  if (!groups) o = c;  // depthwise
  const int64_t k = filtered ? 3 : r.of({1, 2, 3, 3, 3, 5}), stride = filtered ? 1 : r.of({1, 1, 1, 2, 3});
  const int64_t pad = r.within(filtered, 2), dilation = filtered ? 1 : r.of({1, 1, 1, 2});
  const int64_t least = dilation * (k - 1) + 1, height = r.within(least, 12), width = r.within(least, 12);
  const int64_t by = groups ? groups : c, in = c / by;
  std::vector<int64_t> weight;
  const int64_t kind = r.within(0, 9), many = o * in * k * k;
  if (kind < 2) {  // from a codebook
    const int64_t words = kind ? 50 : 16, scale = r.of({1, 127});
    const auto book = each(words * k * k, [&] { return r.within(-1, 1) * scale; });
    for (int64_t i = 0; i < o * in; i++) {
      const int64_t word = r.within(0, words - 1) * k * k;
      weight.insert(weight.end(), book.begin() + word, book.begin() + word + k * k);
    }
  } else if (kind < 4) {
    weight = each(many, [&] { return kind == 2 ? r.of({-1, 1}) : r.within(0, 1); });
  } else {
    const int64_t limit = std::initializer_list<int64_t>{127, 7, 1, 15, 3000, 1 << 22}.begin()[kind - 4];
    weight = each(many, [&] { return r.within(-limit - 1, limit); });
  }
  int64_t low_sum = 0, high_sum = 0;
  for (int64_t i = 0; i < o; i++) {
    int64_t down = 0, up = 0;
    for (int64_t j = 0; j < in * k * k; j++) (weight[i * in * k * k + j] < 0 ? down : up) += weight[i * in * k * k + j] * high;
    low_sum = std::min(low_sum, down), high_sum = std::max(high_sum, up);
  }
  const auto size_of = [&](int64_t n) { return (n + 2 * pad - least) / stride + 1; };
  const Sizes out{o, size_of(height), size_of(width)};
  add(g, "input", {}, {}, {}, {c, height, width}, 0, high, g.T);
  add(g, "synapse", {0}, {stride, stride, pad, pad, dilation, dilation, by}, {array({o, in, k, k}, weight)}, out, low_sum,
      high_sum, g.T);
  const int64_t size = std::max(high_sum, -low_sum) + 1, follows = r.within(0, 5);
  const auto theta = [&] { return r.within(-size / 8, size / 3); };
  const auto sign = [&] { return r.of({-1, 1}); };
  if (follows == 1) {
    const int64_t D = r.of({1, 1, 3, 7});
    std::vector<int64_t> thresholds(D * o);
    for (int64_t i = 0; i < o; i++) {
      auto its = each(D, theta);
      std::sort(its.begin(), its.end());
      for (int64_t d = 0; d < D; d++) thresholds[d * o + i] = its[d];
    }
    add(g, "thresholds", {1}, {}, {array({o, 1, 1}, each(o, sign)), array({D, o, 1, 1}, thresholds)}, out, 0, D, g.T);
  } else if (follows > 1) {  // hard, soft, no reset, and a decay that is no power of two
    const int64_t fraction = r.of({0, 10, 20}), shift = follows == 5 ? 6 : r.within(0, 2), reset = follows == 5 ? 0
        : follows - 2;
    const auto factor = each(o, [&] { return sign() * (int64_t{1} << fraction); });
    const auto offset = each(o, [&] { return r.within(-size, size) * (int64_t{1} << fraction) / 8; });
    const auto thresholds =
        each(o, [&] { return theta() * (int64_t{1} << fraction) + r.within(0, std::max<int64_t>(1 << fraction, 2) - 1); });
    const auto amount = reset == 1 ? thresholds : each(o, [&] { return r.within(-3, 3); });
    add(g, "membrane", {1}, {shift, reset},
        {array({o, 1, 1}, factor), array({o, 1, 1}, offset), array({1, 1, 1}, {follows == 5 ? 48 : 1}),
         array({1, o, 1, 1}, thresholds), array({o, 1, 1}, amount)},
        out, 0, 1, g.T);
  }
  const int64_t p = r.of({0, 2, 2, 3});
  if (follows && p && std::min(out[1], out[2]) >= p)
    add(g, "window", {2}, {1, p, p, p, p, 0, 0, 0}, {}, {o, (out[1] - p) / p + 1, (out[2] - p) / p + 1}, 0, g.wires[2].high,
        g.T);
  g.terms.push_back({static_cast<int>(g.wires.size()) - 1, std::vector<double>(product(g.wires.back().shape), 1)});
  g.offset.assign(product(g.wires.back().shape), 0);
  const int64_t rate = r.of({0, 2, 10, 50, 100});
  for (int64_t i = 0; i < g.T * g.N * c * height * width; i++)
    g.x.push_back(static_cast<uint8_t>(r.within(0, 99) < rate ? r.within(1, high) : 0));
  return g;
}

// A convolution 3 x 3 of a map of `side` x `side`, T = 4: of spikes with neurons behind it, or of numbers to `high` with four
// levels.
Given sized_layer(int64_t in, int64_t out, int64_t side, int64_t bits, int64_t high, int64_t percent) {
  Random r{88172645463325252u};
  Given g;
  g.name = "layer";
  g.T = 4;
  const int64_t limit = bits == 1 ? 1 : (int64_t{1} << (bits - 1)) - 1, size = in * 9;
  const auto weight = each(out * size, [&] { return bits == 1 ? r.of({-1, 1}) : r.within(-limit, limit); });
  const Sizes made{out, side, side};
  add(g, "input", {}, {}, {}, {in, side, side}, 0, high, g.T);
  add(g, "synapse", {0}, {1, 1, 1, 1, 1, 1, 1}, {array({out, in, 3, 3}, weight)}, made, -size * limit * high,
      size * limit * high, g.T);
  const int64_t unit = limit * high * size / 50;
  if (high > 1) {
    add(g, "thresholds", {1}, {}, {array({1, 1, 1}, {1}), array({4, 1, 1, 1}, {-unit, 0, unit, 2 * unit})}, made, 0, 4, g.T);
  } else {
    const std::vector<int64_t> zeros(out, 0);
    add(g, "membrane", {1}, {1, 0},
        {array({out, 1, 1}, std::vector<int64_t>(out, 16)), array({out, 1, 1}, zeros), array({1, 1, 1}, {1}),
         array({1, out, 1, 1}, std::vector<int64_t>(out, 16 * unit)), array({out, 1, 1}, zeros)},
        made, 0, 1, g.T);
  }
  g.terms.push_back({2, std::vector<double>(product(made), 1)});
  g.offset.assign(product(made), 0);
  for (int64_t i = 0; i < g.T * in * side * side; i++)
    g.x.push_back(static_cast<uint8_t>(r.within(0, 99) < percent ? r.within(1, high) : 0));
  return g;
}
