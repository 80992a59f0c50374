// Population counts: weights of two values as bits. 16 outputs at once count, in 32 channels of a tap, where both bits are set;
// the counts do not depend on how many spikes there are.
#include "neuron.h"
#include "isa.h"

namespace saccade::engine::SACCADE_ISA {
namespace {

// Spikes that the outputs of a place see, [T][places], and before them those of each place of the input, [T][rows][columns].
struct Seen {
  int32_t *seen, *inputs;
};
ALWAYS Seen seen_of(const Block& b) {
  int32_t* at = static_cast<int32_t*>(b.prepared);
  return {at, at + b.T * b.out_height * b.out_width};
}
int64_t room(const Block& b) { return 4 * b.T * (b.out_height * b.out_width + b.in_height * b.in_width) + 64; }

void prepare(const Block& b, int64_t first, int64_t last) {
  const Seen s = seen_of(b);
  for (int64_t u = first; u < last; u++) {
    const uint64_t* from = b.x + u / b.in_height * b.x_plane + u % b.in_height * b.x_row;
    int32_t* to = s.inputs + u * b.in_width;
    for (int64_t x = 0; x < b.in_width; x++) {
      int64_t n = 0;
      for (int64_t k = 0; k < b.words; k++) n += __builtin_popcountll(from[x * b.words + k]);
      to[x] = static_cast<int32_t>(n);
    }
  }
}

ALWAYS int32_t ones_of(const Block& b, const Seen& s, int64_t t, int64_t oy, int64_t ox) {
  int32_t n = 0;
  for (int64_t ky = 0; ky < b.kernel_y; ky++) {
    const int32_t* row = s.inputs + (t * b.in_height + oy * b.stride_y + ky * b.dilation_y) * b.in_width + ox * b.stride_x;
    for (int64_t kx = 0; kx < b.kernel_x; kx++) n += row[kx * b.dilation_x];
  }
  return n;
}

// Weights [16 outputs][tap][32 channels][16 lanes] of 32 bits, for words of 64 channels.
int64_t weights_room(const Block& b) { return b.padded_out / 16 * b.kernel_y * b.kernel_x * b.words * 2 * 64; }
void set_weight(const Block& b, void* weights, int64_t o, int64_t c, int64_t tap) {
  const int64_t word = (o / 16 * b.kernel_y * b.kernel_x + tap) * b.words * 2 + c / 32;
  static_cast<uint32_t*>(weights)[word * 16 + o % 16] |= uint32_t{1} << c % 32;
}

#if defined(__AVX512VPOPCNTDQ__)

constexpr int STEPS = 4;  // at once

// acc += bits set in both. The compiler would reorder and spill, so the three instructions are its unit.
#define COUNT(acc, w, p)                                                    \
  asm("vpandd %2%{1to16%}, %1, %%zmm31\n\tvpopcntd %%zmm31, %%zmm31\n\tvpaddd %%zmm31, %0, %0" \
      : "+v"(acc)                                                           \
      : "v"(w), "m"(*(p))                                                   \
      : "zmm31")

// P places at N steps from t on, 16 outputs.
template <int P, int N>
ALWAYS void counts(const Block& b, const char* weights, int64_t t, const int64_t* places, Sixteen acc[P][N]) {
  const uint32_t* x[P][N];
  for (int p = 0; p < P; p++)
    for (int n = 0; n < N; n++) {
      x[p][n] = reinterpret_cast<const uint32_t*>(b.x + (t + n) * b.x_plane + places[p] / b.out_width * b.stride_y * b.x_row +
                                                  places[p] % b.out_width * b.stride_x * b.words);
      acc[p][n] = _mm512_setzero_si512();
    }
  const int64_t run = b.dilation_x == 1 ? b.kernel_x * b.words * 2 : b.words * 2, runs = b.dilation_x == 1 ? 1 : b.kernel_x;
  for (int64_t ky = 0; ky < b.kernel_y; ky++)
    for (int64_t r = 0; r < runs; r++) {
      const int64_t from = 2 * (ky * b.dilation_y * b.x_row + r * b.dilation_x * b.words);
      for (int64_t i = from; i < from + run; i++, weights += 64) {
        const __m512i w = _mm512_loadu_si512(weights);
#pragma GCC unroll 2
        for (int p = 0; p < P; p++)
#pragma GCC unroll 4
          for (int n = 0; n < N; n++) COUNT(acc[p][n], w, x[p][n] + i);
      }
    }
}

#elif defined(SACCADE_SHUFFLES)

constexpr int STEPS = 2;

// Bits are counted in bytes, as many words as fit there.
template <int P, int N>
ALWAYS void counts(const Block& b, const char* weights, int64_t t, const int64_t* places, Sixteen acc[P][N]) {
  constexpr int64_t MOST = 31;
  const uint32_t* x[P][N];
  for (int p = 0; p < P; p++)
    for (int n = 0; n < N; n++)
      x[p][n] = reinterpret_cast<const uint32_t*>(b.x + (t + n) * b.x_plane + places[p] / b.out_width * b.stride_y * b.x_row +
                                                  places[p] % b.out_width * b.stride_x * b.words);
  Lanes sums[P][N] = {};
  const int64_t run = b.dilation_x == 1 ? b.kernel_x * b.words * 2 : b.words * 2, runs = b.dilation_x == 1 ? 1 : b.kernel_x;
  for (int64_t ky = 0; ky < b.kernel_y; ky++)
    for (int64_t r = 0; r < runs; r++) {
      const int64_t from = 2 * (ky * b.dilation_y * b.x_row + r * b.dilation_x * b.words);
      for (int64_t begin = from; begin < from + run; begin += MOST) {
        const int64_t end = from + run - begin < MOST ? from + run : begin + MOST;
        Bytes8 found[P][N][Lanes::PARTS] = {};
        for (int64_t i = begin; i < end; i++, weights += 64) {
          Bytes8 w[Lanes::PARTS];
#pragma GCC unroll 4
          for (int k = 0; k < Lanes::PARTS; k++) w[k] = load_as<Bytes8>(weights + WIDTH * k);
#pragma GCC unroll 2
          for (int p = 0; p < P; p++)
#pragma GCC unroll 2
            for (int n = 0; n < N; n++) {
              const Bytes8 word = (Bytes8)(static_cast<int32_t>(x[p][n][i]) - Part{});
#pragma GCC unroll 4
              for (int k = 0; k < Lanes::PARTS; k++) found[p][n][k] += bits_set(word & w[k]);
            }
        }
        for (int p = 0; p < P; p++)
          for (int n = 0; n < N; n++)
            for (int k = 0; k < Lanes::PARTS; k++) sums[p][n].at[k] = add_fours(sums[p][n].at[k], found[p][n][k]);
      }
    }
  for (int p = 0; p < P; p++)
    for (int n = 0; n < N; n++) acc[p][n] = sixteen_of(sums[p][n]);
}

#endif

#if defined(__AVX512VPOPCNTDQ__) || defined(SACCADE_SHUFFLES)

// Bits of 64 outputs, two places at a time and N steps; potentials of both places live in v.
template <int N, class G>
ALWAYS void places_of(const Block& b, const G& give, const Seen& s, int64_t t, int64_t place, int64_t count, int64_t c,
                      int32_t* v) {
  const int64_t places[2] = {place, place + count - 1};
  Sixteen sums[2][N][4];
  const int64_t size = b.kernel_y * b.kernel_x * b.words * 2 * 64;
#pragma GCC unroll 4
  for (int k = 0; k < 4; k++) {
    Sixteen acc[2][N];
    counts<2, N>(b, static_cast<const char*>(b.weights) + (c / 16 + k) * size, t, places, acc);
    for (int p = 0; p < 2; p++)
      for (int n = 0; n < N; n++) sums[p][n][k] = acc[p][n];
  }
  for (int64_t p = 0; p < count; p++)
    for (int n = 0; n < N; n++)
      give(sums[p][n], s.seen[(t + n) * b.out_height * b.out_width + place + p], t + n, place + p, c, v + p * 2 * b.padded_out);
}

template <class G>
ALWAYS void pair(const Block& b, const G& give, const Seen& s, int64_t place, int64_t count, int32_t* v) {
  for (int64_t c = 0; c < b.padded_out; c += 64) {
    int64_t t = 0;
    for (; t + STEPS <= b.T; t += STEPS) places_of<STEPS>(b, give, s, t, place, count, c, v);
    for (; t < b.T; t++) places_of<1>(b, give, s, t, place, count, c, v);
  }
}

#else

template <class G>
ALWAYS void pair(const Block& b, const G& give, const Seen& s, int64_t place, int64_t count, int32_t* v) {
  const int64_t size = b.kernel_y * b.kernel_x * b.words * 2;
  for (int64_t p = 0; p < count; p++)
    for (int64_t c = 0; c < b.padded_out; c += 64)
      for (int64_t t = 0; t < b.T; t++) {
        Sixteen sums[4] = {};
        const uint32_t* x =
            reinterpret_cast<const uint32_t*>(b.x + t * b.x_plane + (place + p) / b.out_width * b.stride_y * b.x_row +
                                                              (place + p) % b.out_width * b.stride_x * b.words);
        for (int k = 0; k < 4; k++) {
          const uint32_t* w = static_cast<const uint32_t*>(b.weights) + (c / 16 + k) * size * 16;
          for (int64_t ky = 0; ky < b.kernel_y; ky++)
            for (int64_t kx = 0; kx < b.kernel_x; kx++)
              for (int64_t i = 0; i < 2 * b.words; i++, w += 16) {
                const uint32_t word = x[2 * (ky * b.dilation_y * b.x_row + kx * b.dilation_x * b.words) + i];
                if (word)
                  for (int o = 0; o < 16; o++) sums[k].at[o] += __builtin_popcount(w[o] & word);
              }
        }
        give(sums, s.seen[t * b.out_height * b.out_width + place + p], t, place + p, c, v + p * 2 * b.padded_out);
      }
}

#endif

void run(const Block& b, int64_t first, int64_t last) {
  const Seen s = seen_of(b);
  for (int64_t t = 0; t < b.T; t++)
    for (int64_t oy = first; oy < last; oy++)
      for (int64_t ox = 0; ox < b.out_width; ox++)
        s.seen[(t * b.out_height + oy) * b.out_width + ox] = ones_of(b, s, t, oy, ox);
  int32_t* v = reinterpret_cast<int32_t*>(b.scratch);
  const int64_t end = last * b.out_width;
  with_giver(b, [&](const auto& give) {
    for (int64_t place = first * b.out_width; place < end; place += 2) {
      const int64_t count = end - place < 2 ? 1 : 2;
      for (int64_t p = 0; p < count; p++) rest(b, v + p * 2 * b.padded_out, place + p);
      pair(b, give, s, place, count, v);
      for (int64_t p = 0; p < count; p++) keep(b, v + p * 2 * b.padded_out, place + p);
    }
  });
}

int64_t scratch(const Block& b) { return 16 * b.padded_out; }

}  // namespace

extern const CountsKernel counts_kernel;
const CountsKernel counts_kernel{room, prepare, weights_room, set_weight, scratch, run};

}  // namespace saccade::engine::SACCADE_ISA
