// Event rows: the rows of weights of the inputs that fired are added up. Work follows the number of spikes.
//
// Preparation, once for each row of the input: the numbers x * channels + c of its spikes, in order, and where each x begins.
// An output's events of a row of its kernel then lie together.
#include "neuron.h"
#include "isa.h"

namespace saccade::engine::SACCADE_ISA {
namespace {

struct Lists {
  uint16_t* entries;
  uint32_t* begins;
  int64_t capacity, width;  // of a row
};

ALWAYS int64_t capacity_of(const Block& b) { return (b.in_width * b.words * 64 + 63) / 32 * 32; }
ALWAYS int64_t begins_of(const Block& b) { return (b.in_width + 16) / 16 * 16; }

ALWAYS Lists lists_of(const Block& b) {
  Lists l;
  l.capacity = capacity_of(b);
  l.width = begins_of(b);
  l.begins = static_cast<uint32_t*>(b.prepared);
  l.entries = reinterpret_cast<uint16_t*>(l.begins + b.T * b.in_height * l.width);
  return l;
}

int64_t room(const Block& b) { return b.T * b.in_height * (begins_of(b) * 4 + capacity_of(b) * 2) + 256; }

void prepare(const Block& b, int64_t first, int64_t last) {
  const Lists l = lists_of(b);
  for (int64_t u = first; u < last; u++) {
    const uint64_t* from = b.x + u / b.in_height * b.x_plane + u % b.in_height * b.x_row;
    uint16_t* entries = l.entries + u * l.capacity;
    uint32_t* begins = l.begins + u * l.width;
    int64_t n = 0;
    for (int64_t x = 0; x < b.in_width; x++) {
      begins[x] = static_cast<uint32_t>(n);
      for (int64_t k = 0; k < b.words; k++) {
        uint64_t word = from[x * b.words + k];
        const int64_t base = (x * b.words + k) * 64;
#if defined(__AVX512VBMI2__)
        if (!word) continue;
        static const __m512i iota = [] {
          alignas(64) uint16_t numbers[32];
          for (int i = 0; i < 32; i++) numbers[i] = static_cast<uint16_t>(i);
          return _mm512_load_si512(numbers);
        }();
        const __m512i at = _mm512_add_epi16(iota, _mm512_set1_epi16(static_cast<int16_t>(base)));
        const uint32_t low = static_cast<uint32_t>(word), high = static_cast<uint32_t>(word >> 32);
        _mm512_storeu_si512(entries + n, _mm512_maskz_compress_epi16(low, at));
        n += __builtin_popcount(low);
        _mm512_storeu_si512(entries + n, _mm512_maskz_compress_epi16(high, _mm512_add_epi16(at, _mm512_set1_epi16(32))));
        n += __builtin_popcount(high);
#else
        for (; word; word &= word - 1) entries[n++] = static_cast<uint16_t>(base + __builtin_ctzll(word));
#endif
      }
    }
    begins[b.in_width] = static_cast<uint32_t>(n);
  }
}

// The events of an output at a step as numbers of rows, [ky][kx][c]; how many.
ALWAYS int64_t collect(const Block& b, const Lists& l, int64_t t, int64_t oy, int64_t ox, uint16_t* to) {
  int64_t n = 0;
  const int64_t left = ox * b.stride_x, channels = b.words * 64;
  const int64_t runs = b.dilation_x == 1 ? 1 : b.kernel_x, wide = b.dilation_x == 1 ? b.kernel_x : 1;
  for (int64_t ky = 0; ky < b.kernel_y; ky++) {
    const int64_t row = t * b.in_height + oy * b.stride_y + ky * b.dilation_y;
    const uint32_t* begins = l.begins + row * l.width;
    for (int64_t r = 0; r < runs; r++) {
      const int64_t x = left + r * b.dilation_x;
      const int64_t begin = begins[x], count = begins[x + wide] - begin;
      const uint16_t* from = l.entries + row * l.capacity + begin;
      const uint16_t shift = static_cast<uint16_t>((ky * b.kernel_x + r - x) * channels);
#if defined(__AVX512BW__)
      const __m512i by = _mm512_set1_epi16(static_cast<int16_t>(shift));
      _mm512_storeu_si512(to + n, _mm512_add_epi16(_mm512_loadu_si512(from), by));
      for (int64_t i = 32; i < count; i += 32)
        _mm512_storeu_si512(to + n + i, _mm512_add_epi16(_mm512_loadu_si512(from + i), by));
#else
      for (int64_t i = 0; i < count; i++) to[n + i] = static_cast<uint16_t>(from[i] + shift);
#endif
      n += count;
    }
  }
  return n;
}

#if defined(__AVX512F__)

ALWAYS __m512i low_half(__m512i x) { return _mm512_cvtepi16_epi32(_mm512_castsi512_si256(x)); }
ALWAYS __m512i high_half(__m512i x) { return _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(x, 1)); }

// Rows of bytes into sums of 16 bits: 32 NV outputs at once, from channel c on. `row`: bytes of a row.
template <int NV> ALWAYS void add_bytes(const int8_t* weights, int64_t row, const uint16_t* list, int64_t n, __m512i* acc) {
  for (int v = 0; v < NV; v++) acc[v] = _mm512_setzero_si512();
  int64_t i = 0;
  for (; i + 2 <= n; i += 2) {
    const int8_t *a = weights + list[i] * row, *b = weights + list[i + 1] * row;
    for (int v = 0; v < NV; v++) {
      const __m512i x = _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(a + 32 * v)));
      const __m512i y = _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + 32 * v)));
      acc[v] = _mm512_add_epi16(acc[v], _mm512_add_epi16(x, y));
    }
  }
  if (i < n)
    for (int v = 0; v < NV; v++)
      acc[v] = _mm512_add_epi16(acc[v], _mm512_cvtepi8_epi16(_mm256_loadu_si256(
                                            reinterpret_cast<const __m256i*>(weights + list[i] * row + 32 * v))));
}

template <int NV, class G>
ALWAYS void bytes_of_place(const Block& b, const G& give, const uint16_t* list, int64_t n, int64_t row, int64_t c, int64_t most,
                           int64_t t, int64_t place, int32_t* v) {
  const int8_t* weights = static_cast<const int8_t*>(b.weights) + c;
  __m512i acc[NV], sums[2 * NV];
  if (__builtin_expect(n <= most, 1)) {
    add_bytes<NV>(weights, row, list, n, acc);
    for (int k = 0; k < NV; k++) sums[2 * k] = low_half(acc[k]), sums[2 * k + 1] = high_half(acc[k]);
  } else {
    for (auto& x : sums) x = _mm512_setzero_si512();
    for (int64_t i = 0; i < n; i += most) {
      add_bytes<NV>(weights, row, list + i, n - i < most ? n - i : most, acc);
      for (int k = 0; k < NV; k++) {
        sums[2 * k] = _mm512_add_epi32(sums[2 * k], low_half(acc[k]));
        sums[2 * k + 1] = _mm512_add_epi32(sums[2 * k + 1], high_half(acc[k]));
      }
    }
  }
#pragma GCC unroll 4
  for (int k = 0; k < NV / 2; k++) give(sums + 4 * k, n, t, place, c + 64 * k, v);
}

#endif

#if defined(__AVX512F__) || defined(SACCADE_SHUFFLES)

// Rows of bytes that stay bytes for `most` events: weights of few bits. 64 NB outputs at once.
template <int NB, class G>
ALWAYS void small_of_place(const Block& b, const G& give, const uint16_t* list, int64_t n, int64_t row, int64_t c, int64_t most,
                           int64_t t, int64_t place, int32_t* v) {
  constexpr int REGISTERS = 64 * NB / WIDTH;
  const int8_t* weights = static_cast<const int8_t*>(b.weights) + c;
  Words wide[2 * REGISTERS] = {};
  for (int64_t i = 0; i < n; i += most) {
    const int64_t end = n - i < most ? n : i + most;
    Bytes8 acc[REGISTERS] = {};
    int64_t k = i;
    for (; k + 2 <= end; k += 2) {
      const int8_t *one = weights + list[k] * row, *two = weights + list[k + 1] * row;
#pragma GCC unroll 16
      for (int j = 0; j < REGISTERS; j++)
        acc[j] = (acc[j] + load_as<Bytes8>(one + WIDTH * j)) + load_as<Bytes8>(two + WIDTH * j);
    }
    if (k < end)
#pragma GCC unroll 16
      for (int j = 0; j < REGISTERS; j++) acc[j] += load_as<Bytes8>(weights + list[k] * row + WIDTH * j);
#pragma GCC unroll 16
    for (int j = 0; j < REGISTERS; j++) add_wide(wide + 2 * j, acc[j]);
  }
#pragma GCC unroll 4
  for (int k = 0; k < NB; k++) {
    Sixteen sums[4];
    for (int i = 0; i < 4; i++) sums[i] = sixteen_of(lanes_of(wide, 4 * k + i));
    give(sums, n, t, place, c + 64 * k, v);
  }
}

#endif

// Rows of any width, 64 outputs at once. Not inlined, so that the compiler sees plain loops over arrays that do not overlap.
template <class W>
__attribute__((noinline)) void add_rows(const W* __restrict weights, int64_t row, const uint16_t* __restrict list, int64_t n,
                                        int32_t* __restrict sums) {
  for (int k = 0; k < 64; k++) sums[k] = 0;
  for (int64_t i = 0; i < n; i++) {
    const W* __restrict from = weights + list[i] * row;
    for (int k = 0; k < 64; k++) sums[k] += from[k];
  }
}

#if defined(SACCADE_SHUFFLES)
// Rows of bytes into sums of 16 bits, which hold `most` events.
void add_rows(const int8_t* weights, int64_t row, const uint16_t* list, int64_t n, int64_t most, int32_t* sums) {
  Lanes total[4] = {};
  for (int64_t i = 0; i < n; i += most) {
    const int64_t end = n - i < most ? n : i + most;
    Words acc[128 / WIDTH] = {};
    for (int64_t k = i; k < end; k++) {
      const int8_t* from = weights + list[k] * row;
#pragma GCC unroll 4
      for (int j = 0; j < 4; j++) add_sixteen(acc + 32 / WIDTH * j, from + 16 * j);
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) total[j] = total[j] + lanes_of(acc, j);
  }
  std::memcpy(sums, total, sizeof total);
}
#else
void add_rows(const int8_t* weights, int64_t row, const uint16_t* list, int64_t n, int64_t, int32_t* sums) {
  add_rows<int8_t>(weights, row, list, n, sums);
}
#endif
template <class W> void add_rows(const W* weights, int64_t row, const uint16_t* list, int64_t n, int64_t, int32_t* sums) {
  add_rows<W>(weights, row, list, n, sums);
}

template <class W, class G>
ALWAYS void wide_of_place(const Block& b, const G& give, const uint16_t* list, int64_t n, int64_t most, int64_t t,
                          int64_t place, int32_t* v) {
  for (int64_t c = 0; c < b.padded_out; c += 64) {
    Sixteen sums[4];
    add_rows(static_cast<const W*>(b.weights) + c, b.padded_out, list, n, most, reinterpret_cast<int32_t*>(sums));
    give(sums, n, t, place, c, v);
  }
}

template <class F> ALWAYS void each_place(const Block& b, int64_t first, int64_t last, F&& f) {
  const Lists l = lists_of(b);
  int32_t* v = reinterpret_cast<int32_t*>(b.scratch);
  uint16_t* list = reinterpret_cast<uint16_t*>(b.scratch + 8 * b.padded_out);
  for (int64_t place = first * b.out_width; place < last * b.out_width; place++) {
    rest(b, v, place);
    for (int64_t t = 0; t < b.T; t++)
      f(list, collect(b, l, t, place / b.out_width, place % b.out_width, list), t, place, v);
    keep(b, v, place);
  }
}

#if defined(__AVX512F__)
template <int NV> void run_bytes(const Block& b, int64_t first, int64_t last, int64_t most) {
  with_giver(b, [&](const auto& give) {
    each_place(b, first, last, [&](const uint16_t* list, int64_t n, int64_t t, int64_t place, int32_t* v) {
      for (int64_t c = 0; c < b.padded_out; c += 32 * NV)
        bytes_of_place<NV>(b, give, list, n, b.padded_out, c, most, t, place, v);
    });
  });
}
#endif
#if defined(__AVX512F__) || defined(SACCADE_SHUFFLES)
template <int NB> void run_small(const Block& b, int64_t first, int64_t last, int64_t most) {
  with_giver(b, [&](const auto& give) {
    each_place(b, first, last, [&](const uint16_t* list, int64_t n, int64_t t, int64_t place, int32_t* v) {
      for (int64_t c = 0; c < b.padded_out; c += 64 * NB)
        small_of_place<NB>(b, give, list, n, b.padded_out, c, most, t, place, v);
    });
  });
}
#endif

// `bytes`: of a weight. `most`: events whose sum fits into the width of the accumulators: bytes if `small`, else 16 bits.
void run(const Block& b, int bytes, bool small, int64_t most, int64_t first, int64_t last) {
#if defined(__AVX512F__) || defined(SACCADE_SHUFFLES)
  const int64_t blocks = b.padded_out / 64;
  if (small) return blocks % 4 == 0   ? run_small<4>(b, first, last, most)
                    : blocks % 2 == 0 ? run_small<2>(b, first, last, most)
                                      : run_small<1>(b, first, last, most);
#endif
#if defined(__AVX512F__)
  if (bytes == 1) return blocks % 4 == 0   ? run_bytes<8>(b, first, last, most)
                         : blocks % 2 == 0 ? run_bytes<4>(b, first, last, most)
                                           : run_bytes<2>(b, first, last, most);
#endif
  const auto each = [&](auto one) {
    with_giver(b, [&](const auto& give) {
      each_place(b, first, last, [&](const uint16_t* list, int64_t n, int64_t t, int64_t place, int32_t* v) {
        wide_of_place<decltype(one)>(b, give, list, n, most, t, place, v);
      });
    });
  };
  if (bytes == 1) return each(int8_t{});
  if (bytes == 2) return each(int16_t{});
  each(int32_t{});
}

int64_t scratch(const Block& b) {
  return 8 * b.padded_out + 2 * (b.kernel_y * b.kernel_x * b.words * 64 + 64 * b.kernel_y * b.kernel_x);
}

}  // namespace

extern const EventKernel events_kernel;
const EventKernel events_kernel{room, prepare, scratch, run};

}  // namespace saccade::engine::SACCADE_ISA
