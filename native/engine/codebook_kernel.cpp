// Kernels from a codebook: a patch of one channel's spikes is a number of up to nine bits; a table gives its product with every
// codeword, and every output picks the one of its own kernel. Patches without a spike are skipped.
#include <type_traits>

#include "neuron.h"
#include "isa.h"

namespace saccade::engine::SACCADE_ISA {
namespace {

// Patches of an output at a step that are not empty, and their channels; how many.
int64_t collect(const Block& b, int64_t t, int64_t oy, int64_t ox, uint16_t* codes, uint16_t* channels) {
  const uint64_t* x = b.x + t * b.x_plane + oy * b.stride_y * b.x_row + ox * b.stride_x * b.words;
  int64_t n = 0;
  for (int64_t word = 0; word < b.words; word++) {
    uint64_t taps[9], any = 0;
    int bits = 0;
    for (int64_t ky = 0; ky < b.kernel_y; ky++)
      for (int64_t kx = 0; kx < b.kernel_x; kx++)
        any |= taps[bits++] = x[ky * b.dilation_y * b.x_row + kx * b.dilation_x * b.words + word];
    if (!any) continue;
#if defined(__AVX512VBMI2__)
    alignas(64) static const uint16_t numbers[32] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                                                     16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31};
    for (int half = 0; half < 2; half++) {
      const uint32_t alive = static_cast<uint32_t>(any >> (32 * half));
      __m512i code = _mm512_setzero_si512();
      for (int k = 0; k < bits; k++)
        code = _mm512_mask_add_epi16(code, static_cast<uint32_t>(taps[k] >> (32 * half)), code,
                                     _mm512_set1_epi16(static_cast<int16_t>(1 << k)));
      const __m512i channel =
          _mm512_add_epi16(_mm512_load_si512(numbers), _mm512_set1_epi16(static_cast<int16_t>(word * 64 + 32 * half)));
      _mm512_storeu_si512(codes + n, _mm512_maskz_compress_epi16(alive, code));
      _mm512_storeu_si512(channels + n, _mm512_maskz_compress_epi16(alive, channel));
      n += __builtin_popcount(alive);
    }
#else
    for (; any; any &= any - 1) {
      const int at = __builtin_ctzll(any);
      uint16_t code = 0;
      for (int k = 0; k < bits; k++) code = static_cast<uint16_t>(code | (taps[k] >> at & 1) << k);
      codes[n] = code;
      channels[n++] = static_cast<uint16_t>(word * 64 + at);
    }
#endif
  }
  return n;
}

// Table [patch][16 or 64 codewords] of bytes, then the codewords of the outputs, [channel][padded outputs].
#if defined(__AVX512VBMI__)

template <int NB, bool LARGE, class G>
ALWAYS void outputs(const Block& b, const Codebook& book, const G& give, const uint16_t* codes, const uint16_t* channels,
                    int64_t n, int64_t t, int64_t place, int64_t c, int32_t* v) {
  __m512i wide[2 * NB];
  for (auto& x : wide) x = _mm512_setzero_si512();
  for (int64_t i = 0; i < n; i += book.most) {
    const int64_t end = n - i < book.most ? n : i + book.most;
    __m512i acc[NB];
    for (auto& x : acc) x = _mm512_setzero_si512();
    for (int64_t k = i; k < end; k++) {
      const int8_t* row = book.table + codes[k] * (LARGE ? 64 : 16);
      const uint8_t* index = book.index + channels[k] * b.padded_out + c;
      const __m512i products = LARGE ? _mm512_loadu_si512(row)
                                     : _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row)));
      for (int j = 0; j < NB; j++) {
        const __m512i which = _mm512_loadu_si512(index + 64 * j);
        acc[j] = _mm512_add_epi8(acc[j],
                                 LARGE ? _mm512_permutexvar_epi8(which, products) : _mm512_shuffle_epi8(products, which));
      }
    }
    for (int j = 0; j < NB; j++) {
      wide[2 * j] = _mm512_add_epi16(wide[2 * j], _mm512_cvtepi8_epi16(_mm512_castsi512_si256(acc[j])));
      wide[2 * j + 1] = _mm512_add_epi16(wide[2 * j + 1], _mm512_cvtepi8_epi16(_mm512_extracti64x4_epi64(acc[j], 1)));
    }
  }
#pragma GCC unroll 4
  for (int k = 0; k < NB; k++) {
    __m512i sums[4];
    for (int h = 0; h < 2; h++) {
      sums[2 * h] = _mm512_cvtepi16_epi32(_mm512_castsi512_si256(wide[2 * k + h]));
      sums[2 * h + 1] = _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(wide[2 * k + h], 1));
    }
    give(sums, 0, t, place, c + 64 * k, v);
  }
}

#elif defined(SACCADE_SHUFFLES)

template <int NB, bool LARGE, class G>
ALWAYS void outputs(const Block& b, const Codebook& book, const G& give, const uint16_t* codes, const uint16_t* channels,
                    int64_t n, int64_t t, int64_t place, int64_t c0, int32_t* v) {
  constexpr int REGISTERS = 64 / WIDTH;
  for (int64_t c = c0; c < c0 + 64 * NB; c += 64) {
    Words wide[2 * REGISTERS] = {};
    for (int64_t i = 0; i < n; i += book.most) {
      const int64_t end = n - i < book.most ? n : i + book.most;
      Bytes8 acc[REGISTERS] = {};
      for (int64_t k = i; k < end; k++) {
        const int8_t* row = book.table + codes[k] * (LARGE ? 64 : 16);
        const uint8_t* index = book.index + channels[k] * b.padded_out + c;
#pragma GCC unroll 4
        for (int j = 0; j < REGISTERS; j++) {
          const Bytes8 which = load_as<Bytes8>(index + WIDTH * j);
          acc[j] += LARGE ? look_up64(row, which) : look_up16(row, which);
        }
      }
#pragma GCC unroll 4
      for (int j = 0; j < REGISTERS; j++) add_wide(wide + 2 * j, acc[j]);
    }
    Sixteen sums[4];
    for (int j = 0; j < 4; j++) sums[j] = sixteen_of(lanes_of(wide, j));
    give(sums, 0, t, place, c, v);
  }
}

#else

template <int NB, bool LARGE, class G>
ALWAYS void outputs(const Block& b, const Codebook& book, const G& give, const uint16_t* codes, const uint16_t* channels,
                    int64_t n, int64_t t, int64_t place, int64_t c0, int32_t* v) {
  for (int64_t c = c0; c < c0 + 64 * NB; c += 64) {
    Sixteen sums[4] = {};
    for (int64_t k = 0; k < n; k++) {
      const int8_t* row = book.table + codes[k] * (LARGE ? 64 : 16);
      const uint8_t* index = book.index + channels[k] * b.padded_out + c;
      for (int o = 0; o < 64; o++) sums[o / 16].at[o % 16] += row[index[o]];
    }
    give(sums, 0, t, place, c, v);
  }
}

#endif

template <int NB, bool LARGE> void run_blocks(const Block& b, const Codebook& book, int64_t first, int64_t last) {
  int32_t* v = reinterpret_cast<int32_t*>(b.scratch);
  uint16_t* codes = reinterpret_cast<uint16_t*>(b.scratch + 8 * b.padded_out);
  uint16_t* channels = codes + b.words * 64 + 32;
  with_giver(b, [&](const auto& give) {
    for (int64_t place = first * b.out_width; place < last * b.out_width; place++) {
      rest(b, v, place);
      for (int64_t t = 0; t < b.T; t++) {
        const int64_t n = collect(b, t, place / b.out_width, place % b.out_width, codes, channels);
        for (int64_t c = 0; c < b.padded_out; c += 64 * NB)
          outputs<NB, LARGE>(b, book, give, codes, channels, n, t, place, c, v);
      }
      keep(b, v, place);
    }
  });
}

void run(const Block& b, const Codebook& book, int64_t first, int64_t last) {
  const int64_t blocks = b.padded_out / 64;
  const auto sized = [&](auto large) {
    constexpr bool LARGE = decltype(large)::value;
    blocks % 4 == 0   ? run_blocks<4, LARGE>(b, book, first, last)
    : blocks % 2 == 0 ? run_blocks<2, LARGE>(b, book, first, last)
                      : run_blocks<1, LARGE>(b, book, first, last);
  };
  book.words > 16 ? sized(std::true_type{}) : sized(std::false_type{});
}

int64_t scratch(const Block& b) { return 8 * b.padded_out + 4 * (b.words * 64 + 64) + 64; }

}  // namespace

extern const CodebookKernel codebook_kernel;
const CodebookKernel codebook_kernel{scratch, run};

}  // namespace saccade::engine::SACCADE_ISA
