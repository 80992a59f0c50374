// Tables of spikes: four neighbouring channels are a number from 0 to 15, and a table holds the sums of their weights. A register
// of table holds those of 16 channels for one output; one permutation looks them up at 16 places, one dot product adds them.
// Weights of more bits have two tables, for digits of 5 bits. Work does not follow the number of spikes.
#include "neuron.h"
#include "isa.h"

namespace saccade::engine::SACCADE_ISA {
namespace {

#if defined(__AVX512VBMI__) && defined(__AVX512VNNI__)

// Numbers of the input, [T][16 channels][tap x][row modulo stride][row / stride][output column] of four bytes: places of the
// output that follow one another lie together for every tap.
ALWAYS int64_t rows_of(const Block& b) { return (b.in_height + b.stride_y - 1) / b.stride_y; }
ALWAYS int64_t plane_of(const Block& b) { return b.stride_y * rows_of(b) * b.out_width; }
int64_t room(const Block& b) { return 4 * b.T * b.words * 4 * b.kernel_x * plane_of(b) + 128 + 4 * b.T * (b.in_height * b.in_width); }

ALWAYS int32_t* inputs_of(const Block& b) {  // spikes of each place of the input
  return static_cast<int32_t*>(b.prepared) + b.T * b.words * 4 * b.kernel_x * plane_of(b) + 32;
}

void prepare(const Block& b, int64_t first, int64_t last) {
  const int64_t plane = plane_of(b);
  uint32_t* numbers = static_cast<uint32_t*>(b.prepared);
  for (int64_t u = first; u < last; u++) {
    const int64_t t = u / b.in_height, y = u % b.in_height;
    const uint64_t* from = b.x + t * b.x_plane + y * b.x_row;
    int32_t* inputs = inputs_of(b) + u * b.in_width;
    for (int64_t x = 0; x < b.in_width; x++) {
      int64_t n = 0;
      for (int64_t k = 0; k < b.words; k++) n += __builtin_popcountll(from[x * b.words + k]);
      inputs[x] = static_cast<int32_t>(n);
    }
    const int64_t at = (y % b.stride_y * rows_of(b) + y / b.stride_y) * b.out_width;
    for (int64_t g = 0; g < b.words * 4; g++)
      for (int64_t kx = 0; kx < b.kernel_x; kx++) {
        uint32_t* to = numbers + ((t * b.words * 4 + g) * b.kernel_x + kx) * plane + at;
        const uint16_t* bits = reinterpret_cast<const uint16_t*>(from + kx * b.dilation_x * b.words) + g;
        for (int64_t ox = 0; ox < b.out_width; ox++)
          to[ox] = static_cast<uint32_t>(_pdep_u32(bits[ox * b.stride_x * b.words * 4], 0x0f0f0f0f)) | 0x30201000;
      }
  }
}

// The one permutation and one product; together, so that the compiler keeps them so.
#define LOOK_UP(acc, table, numbers, by)                              \
  asm("vpermb %1, %2, %%zmm31\n\tvpdpbusd %%zmm31, %3, %0" : "+v"(acc) : "v"(table), "v"(numbers), "v"(by) : "zmm31")

// Sums of 4 outputs at 16 places and N steps. Tables [tap][16 channels][table][4 outputs] of 64 bytes.
template <int N, int TABLES>
ALWAYS void sums_of(const Block& b, const char* tables, int64_t t, int64_t place, __m512i acc[N][4]) {
  const int64_t plane = plane_of(b), groups = b.words * 4, step = groups * b.kernel_x * plane;
  const __m512i one = _mm512_set1_epi8(1), more = _mm512_set1_epi8(32);
  for (int n = 0; n < N; n++)
    for (int k = 0; k < 4; k++) acc[n][k] = _mm512_setzero_si512();
  for (int64_t ky = 0; ky < b.kernel_y; ky++) {
    const int64_t y = ky * b.dilation_y, row = (y % b.stride_y * rows_of(b) + y / b.stride_y) * b.out_width + place;
    for (int64_t kx = 0; kx < b.kernel_x; kx++) {
      const uint32_t* x = static_cast<const uint32_t*>(b.prepared) + (t * groups * b.kernel_x + kx) * plane + row;
      for (int64_t g = 0; g < groups; g++, x += b.kernel_x * plane, tables += 256 * TABLES) {
        __m512i numbers[N];
#pragma GCC unroll 4
        for (int n = 0; n < N; n++) numbers[n] = _mm512_loadu_si512(x + n * step);
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) {
          const __m512i table = _mm512_loadu_si512(tables + 64 * k);
#pragma GCC unroll 4
          for (int n = 0; n < N; n++) LOOK_UP(acc[n][k], table, numbers[n], one);
        }
        if (TABLES == 2) {
#pragma GCC unroll 4
          for (int k = 0; k < 4; k++) {
            const __m512i table = _mm512_loadu_si512(tables + 256 + 64 * k);
#pragma GCC unroll 4
            for (int n = 0; n < N; n++) LOOK_UP(acc[n][k], table, numbers[n], more);
          }
        }
      }
    }
  }
}

// What neurons of one output do at 16 places, N steps.
template <int N>
ALWAYS void neurons(const Block& b, int64_t t, int64_t c, const __m512i acc[N][4], int k, const __m512i* more, __m512i* v, uint16_t* to) {
  const Neuron& n = b.neuron;
  const __m512i scale = _mm512_set1_epi32(b.scale);
  if (n.kind == Neuron::THRESHOLD) {
    for (int i = 0; i < N; i++)
      to[i * 64] = _mm512_cmpge_epi32_mask(_mm512_add_epi32(_mm512_mullo_epi32(acc[i][k], scale), more[i]), _mm512_set1_epi32(n.threshold[c]));
    return;
  }
  const __m512i half = _mm512_set1_epi32((1 << n.shift) >> 1), offset = _mm512_set1_epi32(n.offset[c]),
                threshold = _mm512_set1_epi32(n.threshold[c]), amount = _mm512_set1_epi32(n.amount[c]);
  const __m128i shift = _mm_cvtsi32_si128(n.shift), bits = _mm_cvtsi32_si128(n.bits);
  __m512i u = t ? *v : _mm512_setzero_si512();
  for (int i = 0; i < N; i++) {
    u = _mm512_sra_epi32(_mm512_add_epi32(u, half), shift);
    u = _mm512_add_epi32(u, _mm512_sll_epi32(_mm512_add_epi32(_mm512_mullo_epi32(acc[i][k], scale), more[i]), bits));
    u = _mm512_add_epi32(u, offset);
    const __mmask16 fires = _mm512_cmpge_epi32_mask(u, threshold);
    if (n.reset == Neuron::HARD) u = _mm512_mask_mov_epi32(u, fires, amount);
    if (n.reset == Neuron::SOFT) u = _mm512_mask_sub_epi32(u, fires, u, amount);
    to[i * 64] = static_cast<uint16_t>(fires);
  }
  *v = u;
}

template <int N, int TABLES>
ALWAYS void steps_of(const Block& b, int64_t t, int64_t place, int64_t places, const int32_t* ones, __m512i* v, int32_t* wide) {
  const int64_t size = b.kernel_y * b.kernel_x * b.words * 4 * 256 * TABLES;
  const bool direct = b.neuron.kind == Neuron::THRESHOLD || b.neuron.kind == Neuron::POTENTIAL;
  __m512i more[N];
  for (int n = 0; n < N; n++) more[n] = _mm512_mullo_epi32(_mm512_loadu_si512(ones + (t + n) * 16), _mm512_set1_epi32(b.base));
  for (int64_t c = 0; c < b.padded_out; c += 64) {
    alignas(64) uint16_t fired[N][64];
    for (int64_t o = c; o < c + 64; o += 4) {
      __m512i acc[N][4];
      if (o < b.out) sums_of<N, TABLES>(b, static_cast<const char*>(b.weights) + o / 4 * size, t, place, acc);
#pragma GCC unroll 4
      for (int k = 0; k < 4; k++) {
        if (direct) {
          if (o < b.out)
            neurons<N>(b, t, o + k, acc, k, more, v + o + k, &fired[0][o - c + k]);
          else
            for (int n = 0; n < N; n++) fired[n][o - c + k] = 0;
          continue;
        }
        for (int n = 0; n < N; n++)  // [step][place][output], for the neurons of any kind
          _mm512_i32scatter_epi32(wide + (t + n) * 16 * b.padded_out + o + k,
                                  _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                                                     _mm512_set1_epi32(static_cast<int32_t>(b.padded_out))),
                                  o < b.out ? acc[n][k] : _mm512_setzero_si512(), 4);
      }
    }
    if (!direct) continue;
    for (int n = 0; n < N; n++) {
      const __m512i low = _mm512_load_si512(fired[n]), high = _mm512_load_si512(fired[n] + 32);
      for (int64_t p = 0; p < places; p++) {
        const __m512i bit = _mm512_set1_epi16(static_cast<int16_t>(1 << p));
        const uint64_t spikes = _mm512_test_epi16_mask(low, bit) | static_cast<uint64_t>(_mm512_test_epi16_mask(high, bit)) << 32;
        uint64_t* to = b.y + (t + n) * b.y_plane + b.where[place + p] + c / 64;
        *to = b.pooled ? *to | spikes : spikes;
      }
    }
  }
}

int64_t scratch(const Block& b) {  // potentials, spikes seen, sums of any kind
  return 64 * b.padded_out + 64 * (b.T + 1) + 4 * b.T * 16 * b.padded_out + 16 * b.padded_out + 256;
}

template <int TABLES> void run_tables(const Block& b, int64_t first, int64_t last) {
  char* at = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(b.scratch) + 63) & ~uintptr_t{63});
  int32_t* alone = reinterpret_cast<int32_t*>(at);  // potentials of one place
  __m512i* v = reinterpret_cast<__m512i*>(at + 8 * b.padded_out);
  int32_t* ones = reinterpret_cast<int32_t*>(v + b.padded_out);
  int32_t* wide = ones + 16 * b.T;
  const int64_t end = last * b.out_width;
  const bool direct = b.neuron.kind == Neuron::THRESHOLD || b.neuron.kind == Neuron::POTENTIAL;
  for (int64_t place = first * b.out_width; place < end; place += 16) {
    const int64_t places = end - place < 16 ? end - place : 16;
    for (int64_t t = 0; t < b.T; t++)
      for (int64_t p = 0; p < 16; p++) {
        const int64_t its = p < places ? place + p : place;
        int32_t n = 0;
        for (int64_t ky = 0; ky < b.kernel_y; ky++) {
          const int32_t* row = inputs_of(b) + (t * b.in_height + its / b.out_width * b.stride_y + ky * b.dilation_y) * b.in_width +
                               its % b.out_width * b.stride_x;
          for (int64_t kx = 0; kx < b.kernel_x; kx++) n += row[kx * b.dilation_x];
        }
        ones[t * 16 + p] = n;
      }
    int64_t t = 0;
    for (; t + 4 <= b.T; t += 4) steps_of<4, TABLES>(b, t, place, places, ones, v, wide);
    for (; t < b.T; t++) steps_of<1, TABLES>(b, t, place, places, ones, v, wide);
    if (direct) continue;
    const Giver<false> give(b);
    for (int64_t p = 0; p < places; p++) {
      rest(b, alone, place + p);
      for (int64_t step = 0; step < b.T; step++)
        for (int64_t c = 0; c < b.padded_out; c += 64) {
          const int32_t* from = wide + (step * 16 + p) * b.padded_out + c;
          const Sixteen sums[4] = {load16(from), load16(from + 16), load16(from + 32), load16(from + 48)};
          give(sums, ones[step * 16 + p], step, place + p, c, alone);
        }
      keep(b, alone, place + p);
    }
  }
}

void run(const Block& b, int tables, int64_t first, int64_t last) {
  return tables == 1 ? run_tables<1>(b, first, last) : run_tables<2>(b, first, last);
}

#endif

}  // namespace

extern const TablesKernel tables_kernel;
#if defined(__AVX512VBMI__) && defined(__AVX512VNNI__)
const TablesKernel tables_kernel{room, prepare, scratch, run};
#else
const TablesKernel tables_kernel{nullptr, nullptr, nullptr, nullptr};
#endif

}  // namespace saccade::engine::SACCADE_ISA
