// Minimal filtering of 3 x 3 taps (Winograd, 1980; Lavin and Gray, 2016, F(2 x 2, 3 x 3)): 16 products where four outputs have
// 36. Its halves are kept out of the weights, so that all numbers are whole and sums are four times themselves; counts of a few
// levels and weights of a few bits still fit into bytes.
#include <algorithm>

#include "isa.h"
#include "products.h"

namespace saccade::engine::SACCADE_ISA {
namespace {

typedef uint8_t Channels __attribute__((vector_size(WIDTH)));

// Columns, or rows: differences and a sum of four numbers, in bytes modulo 256.
ALWAYS void differ(const Channels* from, int step, Channels* to) {
  to[0] = from[0] - from[2 * step];
  to[1] = from[step] + from[2 * step];
  to[2] = from[2 * step] - from[step];
  to[3] = from[step] - from[3 * step];
}

void prepare(const Dense& l, int64_t first, int64_t last) {
  const int64_t across = (l.out_width + 1) / 2, channels = 4 * l.words;
  const Channels shift = Channels{} + l.shift;
  for (int64_t ty = first; ty < last; ty++)
    for (int64_t tx = 0; tx < across; tx++) {
      const uint8_t* x = l.x + 2 * ty * l.x_row + 2 * tx * l.x_place;
      uint8_t* to = l.tiles + (ty * across + tx) * 16 * l.tile_bytes;
      for (int64_t c = 0; c < channels; c += WIDTH) {
        Channels rows[16], made[4];
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) {
          Channels column[4];
          for (int i = 0; i < 4; i++) column[i] = load_as<Channels>(x + i * l.x_row + k * l.x_place + c);
          differ(column, 1, made);
          for (int i = 0; i < 4; i++) rows[4 * i + k] = made[i];
        }
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
          differ(rows + 4 * i, 1, made);
          for (int k = 0; k < 4; k++) {
            // sums of counts alone are not negative
            const Channels shifted = i == 1 && k == 1 ? made[k] : made[k] + shift;
            std::memcpy(to + (4 * i + k) * l.tile_bytes + c, &shifted, sizeof shifted);
          }
        }
      }
    }
}

// Sums of four to two.
ALWAYS void join(const Lanes& a, const Lanes& b, const Lanes& c, const Lanes& d, Lanes& one, Lanes& two) {
  one = a + b + c;
  two = b - c - d;
}

template <class F> constexpr int tiles_of() { return F::PLACES > 2 ? 4 : F::PLACES; }

// Products of P tiles with NB blocks of 16 outputs, or with the D digits of one, number by number of the 16, to where they lie:
// of digits the lowest one, and what the others make together, modulo 2^32.
template <class F, int D, int P, int NB>
ALWAYS void multiply(const Dense& l, const uint8_t* const (&x)[P], int64_t c, Lanes* products) {
  constexpr int COLUMNS = D > 1 ? D : NB, KEPT = D > 1 ? 2 : NB;
  const int64_t block = l.words * F::SIZE, number = l.padded_out / 16 * block, stride = D > 1 ? 16 * number : block;
  const int64_t start_stride = D > 1 ? 16 * l.padded_out : 16;
  const char* w = static_cast<const char*>(l.weights) + c / 16 * block;
  for (int k = 0; k < 16; k++, w += number) {
    const int32_t* start = l.start + k * l.padded_out + c;
    typename F::Sums acc[P][COLUMNS];
    Lanes sums[P][COLUMNS];
    for (auto& tile : acc)
      for (auto& one : tile) one = F::zero();
    if constexpr (F::WIDENS) {
      for (auto& tile : sums)
        for (auto& one : tile) one = Lanes{};
      for (int64_t i = 0; i < l.words; i += l.most) {
        add_words<F>(acc, x, k * l.tile_bytes + 4 * i, l.words - i < l.most ? l.words - i : l.most, w + i * F::SIZE, stride);
        for (int p = 0; p < P; p++)
          for (int b = 0; b < COLUMNS; b++) sums[p][b] = sums[p][b] + F::lanes(acc[p][b]), acc[p][b] = F::zero();
      }
    } else {
      add_words<F>(acc, x, k * l.tile_bytes, l.words, w, stride);
#pragma GCC unroll 4
      for (int p = 0; p < P; p++)
#pragma GCC unroll 4
        for (int b = 0; b < COLUMNS; b++) sums[p][b] = F::lanes(acc[p][b]);
    }
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) {
      Lanes* to = products + (k * P + p) * KEPT;
#pragma GCC unroll 4
      for (int b = 0; b < COLUMNS; b++) sums[p][b] = sums[p][b] + load_lanes(start + b * start_stride);
      if constexpr (D == 1) {
#pragma GCC unroll 4
        for (int b = 0; b < NB; b++) to[b] = sums[p][b];
      } else {
        Lanes rest = sums[p][1];
#pragma GCC unroll 4
        for (int d = 2; d < D; d++) rest = rest + (sums[p][d] << (digit_of<F>() * (d - 1)));
        to[0] = sums[p][0], to[1] = rest;
      }
    }
  }
}

// Four times the sums of 2 x 2 outputs, of products that lie `step` apart.
ALWAYS void sums_of(const Lanes* m, int64_t step, Lanes (&sums)[4]) {
  Lanes rows[2][4];
#pragma GCC unroll 4
  for (int k = 0; k < 4; k++)
    join(m[k * step], m[(4 + k) * step], m[(8 + k) * step], m[(12 + k) * step], rows[0][k], rows[1][k]);
#pragma GCC unroll 2
  for (int i = 0; i < 2; i++) join(rows[i][0], rows[i][1], rows[i][2], rows[i][3], sums[2 * i], sums[2 * i + 1]);
}

// Sums of more than one digit: the lowest one is a multiple of four as well.
template <int BITS> ALWAYS Lanes whole(const Lanes& low, const Lanes& rest) { return (low >> 2) + (rest << (BITS - 2)); }
ALWAYS int64_t whole(const Lanes& low, const Lanes& rest, int i, int bits) {
  const auto number =
      [i](const Lanes& x) { return static_cast<int64_t>(load_as<int32_t>(reinterpret_cast<const char*>(&x) + 4 * i)); };
  return (number(low) >> 2) + number(rest) * (int64_t{1} << (bits - 2));
}

// What the sums of 16 outputs of a tile become: `four` of them, or those of the lowest digit and of the rest.
template <int BITS, int D>
ALWAYS void finish(const Dense& l, const Lanes (&four)[4], const Lanes (&rest)[4], int64_t oy, int64_t ox, int64_t c) {
  const int32_t* thresholds = l.thresholds + c;
  if (l.pooled) {
    uint8_t* to = l.y + oy / 2 * l.y_row + ox / 2 * l.y_place + c;
    Lanes top = D == 1 ? four[0] : l.dropped ? rest[0] + (four[0] >> BITS) : whole<BITS>(four[0], rest[0]);
#pragma GCC unroll 4
    for (int i = 1; i < 4; i++)
      top = most_of(top, D == 1 ? four[i] : l.dropped ? rest[i] + (four[i] >> BITS) : whole<BITS>(four[i], rest[i]));
    if (D > 1 && l.dropped && near(top, thresholds, l.padded_out, l.levels))
      return exact_levels(16, [&](int i) {
        int64_t most = whole(four[0], rest[0], i, BITS);
        for (int k = 1; k < 4; k++) most = std::max(most, whole(four[k], rest[k], i, BITS));
        return most;
      }, l.exact + c, l.padded_out, l.levels, to);
    return put_counts(level_of(top, thresholds, l.padded_out, l.levels), to);
  }
#pragma GCC unroll 4
  for (int k = 0; k < 4; k++) {
    const int64_t y = oy + k / 2, x = ox + k % 2, place = y * l.out_width + x;
    if (y >= l.out_height || x >= l.out_width) continue;
    if (l.sums) {
      put_sums(D == 1 ? four[k] >> 2 : whole<BITS>(four[k], rest[k]), l.sums + place * l.out, c, l.out);
      continue;
    }
    if (l.sums64) {
      for (int i = 0; i < 16 && c + i < l.out; i++) l.sums64[place * l.out + c + i] = whole(four[k], rest[k], i, BITS);
      continue;
    }
    uint8_t* to = l.y + y * l.y_row + x * l.y_place + c;
    if (D > 1 && l.dropped) {
      const Lanes top = rest[k] + (four[k] >> BITS);
      if (near(top, thresholds, l.padded_out, l.levels))
        exact_levels(16, [&](int i) { return whole(four[k], rest[k], i, BITS); }, l.exact + c, l.padded_out, l.levels, to);
      else
        put_counts(level_of(top, thresholds, l.padded_out, l.levels), to);
      continue;
    }
    put_counts(level_of(D == 1 ? four[k] : whole<BITS>(four[k], rest[k]), thresholds, l.padded_out, l.levels), to);
  }
}

template <class F, int D, int NB> void run_blocks(const Dense& l, int64_t first, int64_t last, int64_t c) {
  constexpr int P = tiles_of<F>(), KEPT = D > 1 ? 2 : NB;
  const int64_t across = (l.out_width + 1) / 2, end = last * across;
  Lanes* products = reinterpret_cast<Lanes*>(l.scratch);
  for (int64_t tile = first * across; tile < end; tile += P) {
    const int64_t tiles = end - tile < P ? end - tile : P;
    const uint8_t* x[P];
    for (int64_t p = 0; p < P; p++) x[p] = l.tiles + (tile + (p < tiles ? p : tiles - 1)) * 16 * l.tile_bytes;
    multiply<F, D, P, NB>(l, x, c, products);
    for (int64_t p = 0; p < tiles; p++) {
      const int64_t oy = (tile + p) / across * 2, ox = (tile + p) % across * 2;
      for (int b = 0; b < (D > 1 ? 1 : NB); b++) {
        Lanes four[4], rest[4] = {};  // no rest where there is one digit
        sums_of(products + p * KEPT + b, P * KEPT, four);
        if (D > 1) sums_of(products + p * KEPT + 1, P * KEPT, rest);
        finish<digit_of<F>(), D>(l, four, rest, oy, ox, c + 16 * b);
      }
    }
  }
}

void run(const Dense& l, int64_t first, int64_t last) {
  with_form(l, [&](auto form, auto digits) {
    using F = decltype(form);
    constexpr int D = digits;
    each_blocks<F, (D > 1)>(l, [&](auto blocks, int64_t c) { run_blocks<F, D, blocks>(l, first, last, c); });
  });
}

int64_t scratch(const Dense&) { return 16 * 4 * 4 * static_cast<int64_t>(sizeof(Lanes)); }

}  // namespace

extern const WinogradKernel winograd_kernel;
const WinogradKernel winograd_kernel{scratch, prepare, run};

}  // namespace saccade::engine::SACCADE_ISA
