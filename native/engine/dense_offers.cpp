// What each kernel for layers of bytes needs of a layer, and its weights in the kernel's order.
#include <algorithm>

#include "convolution.h"
#include "dense.h"

namespace saccade::engine {
namespace {

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
bool dense(const Plan& plan, const DenseWork& w, DenseChoice& k) {
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
bool winograd(const Plan& plan, const DenseWork& w, DenseChoice& k) {
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

}  // namespace

const std::vector<DenseOffer> DENSE_OFFERS = {dense, winograd};

}  // namespace saccade::engine
