// Layers of bytes whose neurons have levels: sums of some places and 16 to 64 outputs stay in registers, and so do the levels
// and maxima that are made of them.
#include "isa.h"
#include "products.h"

namespace saccade::engine::SACCADE_ISA {
namespace {

// Channels 8 to 15 as channels 0 to 7.
ALWAYS Lanes upper(const Lanes& x) {
#if defined(__AVX512F__)
  const __m512i all = (__m512i)x.at[0];
  return {{(Part)_mm512_shuffle_i64x2(all, all, 0xee)}};
#else
  return each_part([&](int i) { return x.at[(i + Lanes::PARTS / 2) % Lanes::PARTS]; });
#endif
}

// Products of P places with NB blocks of weights that lie `stride` bytes apart.
template <class F, int P, int NB>
ALWAYS void add_taps(const Dense& l, const uint8_t* const (&x)[P], const char* w, int64_t stride, Lanes (&sums)[P][NB]) {
  const bool joined = l.dilation_x == 1 && l.x_place == 4 * l.words;
  const int64_t runs = joined ? 1 : l.kernel_x, run = joined ? l.kernel_x * l.words : l.words;
  typename F::Sums acc[P][NB];
  for (auto& place : acc)
    for (auto& block : place) block = F::zero();
  if constexpr (F::WIDENS)
    for (auto& place : sums)
      for (auto& block : place) block = Lanes{};
  int64_t left = l.most;
  for (int64_t ky = 0; ky < l.kernel_y; ky++)
    for (int64_t r = 0; r < runs; r++, w += run * F::SIZE) {
      const int64_t at = ky * l.dilation_y * l.x_row + r * l.dilation_x * l.x_place;
      if constexpr (!F::WIDENS) {
        add_words<F>(acc, x, at, run, w, stride);
      } else {
        for (int64_t i = 0; i < run;) {
          const int64_t n = run - i < left ? run - i : left;
          add_words<F>(acc, x, at + 4 * i, n, w + i * F::SIZE, stride);
          i += n;
          if ((left -= n)) continue;
          for (int p = 0; p < P; p++)
            for (int b = 0; b < NB; b++) sums[p][b] = sums[p][b] + F::lanes(acc[p][b]), acc[p][b] = F::zero();
          left = l.most;
        }
      }
    }
#pragma GCC unroll 8
  for (int p = 0; p < P; p++)
#pragma GCC unroll 4
    for (int b = 0; b < NB; b++) {
      if constexpr (F::WIDENS)
        sums[p][b] = sums[p][b] + F::lanes(acc[p][b]);
      else
        sums[p][b] = F::lanes(acc[p][b]);
    }
}

// The sums of P places and 16 NB outputs in all digits: digits of one block as blocks are, if registers hold them, so that
// inputs are read once; else one after the other.
template <class F, int D, int P, int NB>
ALWAYS void add_all(const Dense& l, const uint8_t* const (&x)[P], int64_t c, Lanes (&sums)[P][NB][D]) {
  const int64_t block = l.kernel_y * l.kernel_x * l.words * F::SIZE, digit = l.padded_out / 16 * block;
  const char* w = static_cast<const char*>(l.weights) + c / 16 * block;
  if constexpr (NB == 1 && D > 1) {
    constexpr int HALF = (D + 1) / 2;
    if (l.halves) {
      Lanes both[P][HALF];
      add_taps<F, P, HALF>(l, x, w, digit, both);
#pragma GCC unroll 8
      for (int p = 0; p < P; p++)
#pragma GCC unroll 4
        for (int d = 0; d < D; d++) sums[p][0][d] = d % 2 ? upper(both[p][d / 2]) : both[p][d / 2];
      return;
    }
  }
  if constexpr (NB == 1 && (F::BLOCKS >= D || D == 2)) {
    Lanes digits[P][D];
    add_taps<F, P, D>(l, x, w, digit, digits);
#pragma GCC unroll 8
    for (int p = 0; p < P; p++)
#pragma GCC unroll 4
      for (int d = 0; d < D; d++) sums[p][0][d] = digits[p][d];
    return;
  }
  for (int d = 0; d < D; d++) {
    Lanes one[P][NB];
    add_taps<F, P, NB>(l, x, w + d * digit, block, one);
#pragma GCC unroll 8
    for (int p = 0; p < P; p++)
#pragma GCC unroll 4
      for (int b = 0; b < NB; b++) sums[p][b][d] = one[p][b];
  }
}

// The sum of all digits, divided by what the `dropped` lowest ones stand for and rounded down.
template <class F, int D> ALWAYS Lanes top_of(const Lanes (&digits)[D], int64_t dropped) {
  constexpr int BITS = digit_of<F>();
  Lanes sum = digits[0];
#pragma GCC unroll 4
  for (int d = 1; d < D; d++) {
    if (d <= dropped)
      sum = digits[d] + (sum >> BITS);
    else
      sum = sum + (digits[d] << static_cast<int>(BITS * (d - dropped)));
  }
  return sum;
}

// The same, with the sign that it should have. Turned sums have all their digits.
template <class F, int D> ALWAYS Lanes sum_of(const Dense& l, const Lanes (&digits)[D], int64_t c) {
  const Lanes sum = top_of<F, D>(digits, l.dropped);
  if (!l.signs) return sum;
  const Lanes s = load_lanes(l.signs + c);
  return each_part([&](int i) { return (sum.at[i] ^ s.at[i]) - s.at[i]; });
}

// The largest of N sums by all digits.
template <class F, int D, int N> ALWAYS int64_t largest(const Lanes (*const digits)[D], int64_t step, int i) {
  int64_t most = INT64_MIN;
  for (int n = 0; n < N; n++) {
    int64_t sum = 0;
    for (int d = D - 1; d >= 0; d--)
      sum = sum * (int64_t{1} << digit_of<F>()) + load_as<int32_t>(reinterpret_cast<const char*>(&digits[n * step][d]) + 4 * i);
    most = sum > most ? sum : most;
  }
  return most;
}

// Levels of the largest of N places; `step`: between them.
template <class F, int D, int N>
ALWAYS void put_levels(const Dense& l, const Lanes (*const digits)[D], int64_t step, int64_t c, uint8_t* to) {
  Lanes top = sum_of<F, D>(l, digits[0], c);
#pragma GCC unroll 4
  for (int n = 1; n < N; n++) top = most_of(top, sum_of<F, D>(l, digits[n * step], c));
  if (D > 1 && l.dropped && near(top, l.thresholds + c, l.padded_out, l.levels))
    return exact_levels(16, [&](int i) { return largest<F, D, N>(digits, step, i); }, l.exact + c, l.padded_out, l.levels, to);
  put_counts(level_of(top, l.thresholds + c, l.padded_out, l.levels), to);
}

// The sums of 16 outputs in 64 bits.
template <class F, int D> ALWAYS void put_wide(const Lanes (&digits)[D], int64_t* to, int64_t c, int64_t out) {
  typedef int64_t Wide __attribute__((vector_size(2 * WIDTH)));
  int64_t sums[16];
#pragma GCC unroll 4
  for (int i = 0; i < Lanes::PARTS; i++) {
    Wide sum = __builtin_convertvector(digits[D - 1].at[i], Wide);
#pragma GCC unroll 4
    for (int d = D - 2; d >= 0; d--) sum = (sum << digit_of<F>()) + __builtin_convertvector(digits[d].at[i], Wide);
    std::memcpy(sums + WIDTH / 4 * i, &sum, sizeof sum);
  }
  if (c < out) std::memcpy(to + c, sums, out - c < 16 ? 8 * (out - c) : sizeof sums);
}

template <class F, int D, int P, int NB> ALWAYS void places_of(const Dense& l, int64_t place, int64_t places, int64_t c) {
  const uint8_t* x[P];
  for (int64_t p = 0; p < P; p++) {
    const int64_t at = place + (p < places ? p : places - 1);
    x[p] = l.x + at / l.out_width * l.stride_y * l.x_row + at % l.out_width * l.stride_x * l.x_place;
  }
  Lanes sums[P][NB][D];
  add_all<F, D, P, NB>(l, x, c, sums);
#pragma GCC unroll 8
  for (int64_t p = 0; p < P; p++) {
    if (p >= places) break;
    const int64_t at = place + p;
    uint8_t* to = l.y + at / l.out_width * l.y_row + at % l.out_width * l.y_place + c;
#pragma GCC unroll 4
    for (int b = 0; b < NB; b++) {
      if (l.sums)
        put_sums(sum_of<F, D>(l, sums[p][b], c + 16 * b), l.sums + at * l.out, c + 16 * b, l.out);
      else if (l.sums64)
        put_wide<F, D>(sums[p][b], l.sums64 + at * l.out, c + 16 * b, l.out);
      else
        put_levels<F, D, 1>(l, &sums[p][b], NB, c + 16 * b, to + 16 * b);
    }
  }
}

template <class F, int D, int NB> ALWAYS void window_of(const Dense& l, int64_t oy, int64_t ox, int64_t c) {
  const uint8_t* x[4];
  for (int64_t p = 0; p < 4; p++)
    x[p] = l.x + (2 * oy + p / 2) * l.stride_y * l.x_row + (2 * ox + p % 2) * l.stride_x * l.x_place;
  Lanes sums[4][NB][D];
#if defined(SACCADE_NEON)
  if constexpr (F::PLACES < 4) {  // whose sums take more registers
    const uint8_t* const two[2][2] = {{x[0], x[1]}, {x[2], x[3]}};
    Lanes half[2][2][NB][D];
    for (int h = 0; h < 2; h++) add_all<F, D, 2, NB>(l, two[h], c, half[h]);
    std::memcpy(&sums, &half, sizeof sums);
  } else
#endif
    add_all<F, D, 4, NB>(l, x, c, sums);
  uint8_t* to = l.y + oy * l.y_row + ox * l.y_place + c;
#pragma GCC unroll 4
  for (int b = 0; b < NB; b++) put_levels<F, D, 4>(l, &sums[0][b], NB, c + 16 * b, to + 16 * b);
}

template <class F, int D, int NB> void run_blocks(const Dense& l, int64_t first, int64_t last, int64_t c) {
  if (l.pooled) {
    for (int64_t oy = first; oy < last; oy++)
      for (int64_t ox = 0; ox < l.out_width / 2; ox++) window_of<F, D, NB>(l, oy, ox, c);
    return;
  }
  constexpr int P = NB == 4 || D == 4 ? (F::PLACES < 4 ? F::PLACES : 4) : F::PLACES;
  for (int64_t place = first * l.out_width, end = last * l.out_width; place < end; place += P)
    places_of<F, D, P, NB>(l, place, end - place < P ? end - place : P, c);
}

// All weights of some outputs, then those of the next ones: they stay in a cache for all places.
void run(const Dense& l, int64_t first, int64_t last) {
  with_form(l, [&](auto form, auto digits) {
    using F = decltype(form);
    constexpr int D = digits;
    each_blocks<F, (D > 1 && F::BLOCKS >= D)>(l, [&](auto blocks, int64_t c) { run_blocks<F, D, blocks>(l, first, last, c); });
  });
}

int64_t most(int64_t high, int64_t size) {
  if (Quads::SIZE != 64 || high > Quads::HIGH) return 0;
  constexpr int64_t ADDED = WIDTH == 16 ? 1 : 2;  // products of a word that are added in 16 bits
  return Quads::WIDENS ? 32767 / (ADDED * high * size) : INT32_MAX;
}

}  // namespace

extern const DenseKernel dense_kernel;
const DenseKernel dense_kernel{most, run};

}  // namespace saccade::engine::SACCADE_ISA
