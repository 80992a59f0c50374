// Tables of spikes: four neighbouring channels are a number from 0 to 15, and a table holds the sums of their weights; 64 bytes
// of tables are those of 16 channels for one output. Work does not follow the number of spikes.
//
// AVX-512 looks them up at 16 places in one permutation and adds the four in one dot product; weights of more bits have two
// tables, for digits of 5 bits. Where bytes are shuffled among 16 alone, what is looked up is added in bytes as often as fits
// there.
#include "neuron.h"
#include "isa.h"

namespace saccade::engine::SACCADE_ISA {
namespace {

#if (defined(__AVX512VBMI__) && defined(__AVX512VNNI__)) || defined(SACCADE_SHUFFLES)

// Numbers of the input, [T][16 channels][tap x][row modulo stride][row / stride][output column] of four bytes, or of one in
// four planes: places of the output that follow one another lie together for every tap.
ALWAYS int64_t rows_of(const Block& b) { return (b.in_height + b.stride_y - 1) / b.stride_y; }
ALWAYS int64_t plane_of(const Block& b) { return b.stride_y * rows_of(b) * b.out_width; }
int64_t room(const Block& b) {
  return 4 * b.T * b.words * 4 * b.kernel_x * plane_of(b) + 128 + 4 * b.T * (b.in_height * b.in_width);
}

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
        uint32_t* to = numbers + ((t * b.words * 4 + g) * b.kernel_x + kx) * plane;
        const uint16_t* bits = reinterpret_cast<const uint16_t*>(from + kx * b.dilation_x * b.words) + g;
#if defined(__AVX512F__)
        for (int64_t ox = 0; ox < b.out_width; ox++)
          to[at + ox] = static_cast<uint32_t>(_pdep_u32(bits[ox * b.stride_x * b.words * 4], 0x0f0f0f0f)) | 0x30201000;
#else
        uint8_t* bytes = reinterpret_cast<uint8_t*>(to) + at;
        for (int64_t ox = 0; ox < b.out_width; ox++) {
          const uint16_t its = bits[ox * b.stride_x * b.words * 4];
          for (int slot = 0; slot < 4; slot++) bytes[slot * plane + ox] = its >> (4 * slot) & 15;
        }
#endif
      }
  }
}

#if defined(__AVX512F__)

constexpr int STEPS = 4;  // at once
int64_t most(int64_t) { return INT32_MAX; }

// The one permutation and one product; together, so that the compiler keeps them so.
#define LOOK_UP(acc, table, numbers, by)                              \
  asm("vpermb %1, %2, %%zmm31\n\tvpdpbusd %%zmm31, %3, %0" : "+v"(acc) : "v"(table), "v"(numbers), "v"(by) : "zmm31")

// Sums of 4 outputs at 16 places and N steps. Tables [tap][16 channels][table][4 outputs] of 64 bytes.
template <int N, int TABLES>
ALWAYS void sums_of(const Block& b, const char* tables, int64_t, int64_t t, int64_t place, Lanes sums[N][4]) {
  const int64_t plane = plane_of(b), groups = b.words * 4, step = groups * b.kernel_x * plane;
  const __m512i one = _mm512_set1_epi8(1), more = _mm512_set1_epi8(32);
  __m512i acc[N][4];
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
#pragma GCC unroll 4
  for (int n = 0; n < N; n++)
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) sums[n][k] = {{(Part)acc[n][k]}};
}

#else

constexpr int STEPS = WIDTH == 32 ? 1 : 2;  // sums of 4 outputs stay in registers
constexpr int IN_BYTES = 32 / WIDTH;        // sums of four channels that are added to a byte for 16 channels
constexpr int REGISTERS = 64 / WIDTH;       // of the tables of 16 channels, or their numbers at 16 places
int64_t most(int64_t size) { return 127 / (IN_BYTES * size); }

#if defined(__AVX2__)
typedef __m256i Numbers[REGISTERS];  // of two slots
ALWAYS void load_numbers(const uint8_t* x, int64_t plane, Numbers& to) {
  const auto at = [&](int slot) { return load_as<__m128i>(x + slot * plane); };
  for (int h = 0; h < 2; h++) to[h] = _mm256_inserti128_si256(_mm256_castsi128_si256(at(2 * h)), at(2 * h + 1), 1);
}
ALWAYS void add_found(Bytes8 (&acc)[2], const char* tables, const Numbers& numbers) {
  for (int h = 0; h < 2; h++) acc[h] += (Bytes8)_mm256_shuffle_epi8(load_as<__m256i>(tables + 32 * h), numbers[h]);
}
// Bytes of a place side by side, then their sums: of places 0 to 7 in both halves of one register, and 8 to 15.
ALWAYS void widen(Words (&to)[2], const Bytes8 (&acc)[2]) {
  const __m256i one = _mm256_set1_epi8(1), x = (__m256i)acc[0], y = (__m256i)acc[1];
  to[0] += (Words)_mm256_maddubs_epi16(one, _mm256_unpacklo_epi8(x, y));
  to[1] += (Words)_mm256_maddubs_epi16(one, _mm256_unpackhi_epi8(x, y));
}
ALWAYS Lanes whole(const Words (&x)[2]) {
  return each_part([&](int i) {
    const __m256i both = (__m256i)x[i];
    return (Part)_mm256_cvtepi16_epi32(_mm_add_epi16(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1)));
  });
}
#else
typedef uint8x16_t Numbers[REGISTERS];
ALWAYS void load_numbers(const uint8_t* x, int64_t plane, Numbers& to) {
  for (int slot = 0; slot < 4; slot++) to[slot] = vld1q_u8(x + slot * plane);
}
ALWAYS void add_found(Bytes8 (&acc)[2], const char* tables, const Numbers& numbers) {
  for (int slot = 0; slot < 4; slot++)
    acc[slot / 2] = vaddq_s8(acc[slot / 2], vqtbl1q_s8(load_as<int8x16_t>(tables + 16 * slot), numbers[slot]));
}
ALWAYS void widen(Words (&to)[2], const Bytes8 (&acc)[2]) {
  for (int h = 0; h < 2; h++) add_wide(to, acc[h]);
}
ALWAYS Lanes whole(const Words (&x)[2]) { return lanes_of(x, 0); }
#endif

// Sums of 4 outputs at 16 places and N steps. Tables [tap][16 channels][4 outputs] of 64 bytes. `most`: groups of 16 channels
// whose sums bytes hold.
template <int N, int TABLES>
ALWAYS void sums_of(const Block& b, const char* tables, int64_t most, int64_t t, int64_t place, Lanes sums[N][4]) {
  static_assert(TABLES == 1, "more bits have no form here");
  const int64_t plane = plane_of(b), groups = b.words * 4, step = 4 * groups * b.kernel_x * plane;
  Bytes8 acc[N][4][2] = {};
  Words wide[N][4][2] = {};
  int64_t left = most;
  for (int64_t ky = 0; ky < b.kernel_y; ky++) {
    const int64_t y = ky * b.dilation_y, row = (y % b.stride_y * rows_of(b) + y / b.stride_y) * b.out_width + place;
    for (int64_t kx = 0; kx < b.kernel_x; kx++) {
      const uint8_t* x = static_cast<const uint8_t*>(b.prepared) + 4 * (t * groups * b.kernel_x + kx) * plane + row;
      for (int64_t g = 0; g < groups;) {
        const int64_t end = groups - g < left ? groups : g + left;
        left -= end - g;
        for (; g < end; g++, x += 4 * b.kernel_x * plane, tables += 256) {
          Numbers numbers[N];
#pragma GCC unroll 2
          for (int n = 0; n < N; n++) load_numbers(x + n * step, plane, numbers[n]);
#pragma GCC unroll 4
          for (int k = 0; k < 4; k++)
#pragma GCC unroll 2
            for (int n = 0; n < N; n++) add_found(acc[n][k], tables + 64 * k, numbers[n]);
        }
        if (left) continue;
        left = most;
#pragma GCC unroll 2
        for (int n = 0; n < N; n++)
#pragma GCC unroll 4
          for (int k = 0; k < 4; k++) widen(wide[n][k], acc[n][k]), acc[n][k][0] = acc[n][k][1] = Bytes8{};
      }
    }
  }
#pragma GCC unroll 2
  for (int n = 0; n < N; n++)
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) widen(wide[n][k], acc[n][k]), sums[n][k] = whole(wide[n][k]);
}

#endif

// What neurons of one output do at 16 places, N steps.
template <int N>
ALWAYS void neurons(const Block& b, int64_t t, int64_t c, const Lanes acc[N][4], int k, const Lanes* more, Lanes* v,
                    uint16_t* to) {
  const Neuron& n = b.neuron;
  const Lanes scale = all_lanes(b.scale), threshold = all_lanes(n.threshold[c]);
  if (n.kind == Neuron::THRESHOLD) {
    for (int i = 0; i < N; i++) to[i * 64] = static_cast<uint16_t>(bits_of(reaches(acc[i][k] * scale + more[i], threshold)));
    return;
  }
  const Lanes half = all_lanes((1 << n.shift) >> 1), offset = all_lanes(n.offset[c]), amount = all_lanes(n.amount[c]);
  Lanes u = t ? *v : Lanes{};
  for (int i = 0; i < N; i++) {
    u = ((u + half) >> n.shift) + ((acc[i][k] * scale + more[i]) << n.bits) + offset;
    const Lanes fires = reaches(u, threshold);
    if (n.reset == Neuron::HARD) u = choose(fires, amount, u);
    if (n.reset == Neuron::SOFT) u = u - (fires & amount);
    to[i * 64] = static_cast<uint16_t>(bits_of(fires));
  }
  *v = u;
}

// Spikes of 64 outputs at 16 places, a word for each output, as a word for each place.
ALWAYS void turn(const uint16_t* fired, uint64_t* spikes) {
#if defined(__AVX512F__)
  const __m512i low = _mm512_load_si512(fired), high = _mm512_load_si512(fired + 32);
  for (int64_t p = 0; p < 16; p++) {
    const __m512i bit = _mm512_set1_epi16(static_cast<int16_t>(1 << p));
    spikes[p] = _mm512_test_epi16_mask(low, bit) | static_cast<uint64_t>(_mm512_test_epi16_mask(high, bit)) << 32;
  }
#else
  uint8_t* to = reinterpret_cast<uint8_t*>(spikes);
  for (int j = 0; j < 8; j++)
    for (int half = 0; half < 2; half++) {
      uint64_t x = 0;  // 8 x 8 bits: outputs, places
      for (int i = 0; i < 8; i++) x |= static_cast<uint64_t>(fired[8 * j + i] >> (8 * half) & 255) << (8 * i);
      uint64_t swap = (x ^ x >> 7) & 0x00aa00aa00aa00aa;
      x ^= swap ^ swap << 7;
      swap = (x ^ x >> 14) & 0x0000cccc0000cccc;
      x ^= swap ^ swap << 14;
      swap = (x ^ x >> 28) & 0x00000000f0f0f0f0;
      x ^= swap ^ swap << 28;
      for (int p = 0; p < 8; p++) to[8 * (8 * half + p) + j] = static_cast<uint8_t>(x >> (8 * p));
    }
#endif
}

// A number for each of 16 places, `step` apart.
ALWAYS void spread(int32_t* to, int64_t step, const Lanes& x) {
#if defined(__AVX512F__)
  const __m512i places = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  _mm512_i32scatter_epi32(to, _mm512_mullo_epi32(places, _mm512_set1_epi32(static_cast<int32_t>(step))), (__m512i)x.at[0], 4);
#else
  int32_t at[16];
  std::memcpy(at, &x, sizeof at);
  for (int p = 0; p < 16; p++) to[p * step] = at[p];
#endif
}

template <int N, int TABLES>
ALWAYS void steps_of(const Block& b, int64_t most, int64_t t, int64_t place, int64_t places, const int32_t* ones, Lanes* v,
                     int32_t* wide) {
  const int64_t size = b.kernel_y * b.kernel_x * b.words * 4 * 256 * TABLES;
  const bool direct = b.neuron.kind == Neuron::THRESHOLD || b.neuron.kind == Neuron::POTENTIAL;
  Lanes more[N];
  for (int n = 0; n < N; n++) more[n] = load_lanes(ones + (t + n) * 16) * all_lanes(b.base);
  for (int64_t c = 0; c < b.padded_out; c += 64) {
    alignas(64) uint16_t fired[N][64];
    for (int64_t o = c; o < c + 64; o += 4) {
      Lanes acc[N][4];
      if (o < b.out) sums_of<N, TABLES>(b, static_cast<const char*>(b.weights) + o / 4 * size, most, t, place, acc);
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
          spread(wide + (t + n) * 16 * b.padded_out + o + k, b.padded_out, o < b.out ? acc[n][k] : Lanes{});
      }
    }
    if (!direct) continue;
    for (int n = 0; n < N; n++) {
      uint64_t spikes[16];
      turn(fired[n], spikes);
      for (int64_t p = 0; p < places; p++) {
        uint64_t* to = b.y + (t + n) * b.y_plane + b.where[place + p] + c / 64;
        *to = b.pooled ? *to | spikes[p] : spikes[p];
      }
    }
  }
}

int64_t scratch(const Block& b) {  // potentials, spikes seen, sums of any kind
  return 64 * b.padded_out + 64 * (b.T + 1) + 4 * b.T * 16 * b.padded_out + 16 * b.padded_out + 256;
}

template <int TABLES> void run_tables(const Block& b, int64_t most, int64_t first, int64_t last) {
  char* at = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(b.scratch) + 63) & ~uintptr_t{63});
  int32_t* alone = reinterpret_cast<int32_t*>(at);  // potentials of one place
  Lanes* v = reinterpret_cast<Lanes*>(at + 8 * b.padded_out);
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
          const int32_t* row =
              inputs_of(b) + (t * b.in_height + its / b.out_width * b.stride_y + ky * b.dilation_y) * b.in_width +
                               its % b.out_width * b.stride_x;
          for (int64_t kx = 0; kx < b.kernel_x; kx++) n += row[kx * b.dilation_x];
        }
        ones[t * 16 + p] = n;
      }
    int64_t t = 0;
    for (; t + STEPS <= b.T; t += STEPS) steps_of<STEPS, TABLES>(b, most, t, place, places, ones, v, wide);
    for (; t < b.T; t++) steps_of<1, TABLES>(b, most, t, place, places, ones, v, wide);
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

#if defined(__AVX512F__)
void run(const Block& b, int tables, int64_t, int64_t first, int64_t last) {
  return tables == 1 ? run_tables<1>(b, 0, first, last) : run_tables<2>(b, 0, first, last);
}
#else
void run(const Block& b, int, int64_t most, int64_t first, int64_t last) { run_tables<1>(b, most, first, last); }
#endif

#endif

}  // namespace

extern const TablesKernel tables_kernel;
#if defined(__AVX512VBMI__) && defined(__AVX512VNNI__)
const TablesKernel tables_kernel{2, 32, most, room, prepare, scratch, run};
#elif defined(SACCADE_SHUFFLES)
const TablesKernel tables_kernel{1, 16, most, room, prepare, scratch, run};
#else
const TablesKernel tables_kernel{};
#endif

}  // namespace saccade::engine::SACCADE_ISA
