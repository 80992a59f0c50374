// Levels of sums that lie in memory, channels innermost: 16 channels of a place at a time.
#include "isa.h"
#include "products.h"

namespace saccade::engine::SACCADE_ISA {
namespace {

template <class X> ALWAYS Lanes widened(const X* from) {
#if defined(__AVX512F__)
  if constexpr (sizeof(X) == 1) return {{(Part)_mm512_cvtepu8_epi32(load_as<__m128i>(from))}};
  if constexpr (sizeof(X) == 2) return {{(Part)_mm512_cvtepi16_epi32(load_as<__m256i>(from))}};
#endif
  int32_t wide[16];
  for (int i = 0; i < 16; i++) wide[i] = static_cast<int32_t>(from[i]);
  return load_lanes(wide);
}

// signs: 0, or -1 of channels whose sums are compared as their negative.
template <class X> void narrow(const LevelsJob& j, int64_t first, int64_t last) {
  const int32_t* signs = static_cast<const int32_t*>(j.signs);
  for (int64_t p = first; p < last; p++)
    for (int64_t c = 0; c < j.padded; c += 16) {
      Lanes x = widened(static_cast<const X*>(j.x) + p * j.place + c);
      if (signs) {
        const Lanes s = load_lanes(signs + c);
        x = each_part([&](int i) { return (x.at[i] ^ s.at[i]) - s.at[i]; });
      }
      put_counts(level_of(x, static_cast<const int32_t*>(j.thresholds) + c, j.padded, j.levels), j.y + p * j.y_place + c);
    }
}

void wide(const LevelsJob& j, int64_t first, int64_t last) {
  const int64_t *signs = static_cast<const int64_t*>(j.signs), *thresholds = static_cast<const int64_t*>(j.thresholds);
  for (int64_t p = first; p < last; p++)
    for (int64_t c = 0; c < j.padded; c += 16) {
      uint8_t* to = j.y + p * j.y_place + c;
#if defined(__AVX512F__)
      for (int k = 0; k < 16 && c + k < j.channels; k += 8) {
        const int64_t at = c + k;
        __m512i x = load_as<__m512i>(static_cast<const int64_t*>(j.x) + p * j.place + at), level = _mm512_setzero_si512();
        if (signs) {
          const __m512i s = load_as<__m512i>(signs + at);
          x = _mm512_sub_epi64(_mm512_xor_si512(x, s), s);
        }
        for (int64_t d = 0; d < j.levels; d++)
          level = _mm512_mask_add_epi64(level, _mm512_cmpge_epi64_mask(x, load_as<__m512i>(thresholds + d * j.padded + at)),
                                        level, _mm512_set1_epi64(1));
        _mm_storel_epi64(reinterpret_cast<__m128i*>(to + k), _mm512_cvtepi64_epi8(level));
      }
#else
      typedef int64_t Long __attribute__((vector_size(WIDTH)));
      constexpr int N = WIDTH / 8;
      int64_t levels[16];
#pragma GCC unroll 8
      for (int k = 0; k < 16; k += N) {
        Long x = load_as<Long>(static_cast<const int64_t*>(j.x) + p * j.place + c + k), level = {};
        if (signs) {
          const Long s = load_as<Long>(signs + c + k);
          x = (x ^ s) - s;
        }
        for (int64_t d = 0; d < j.levels; d++) level -= x >= load_as<Long>(thresholds + d * j.padded + c + k);
        std::memcpy(levels + k, &level, sizeof level);
      }
      for (int i = 0; i < 16; i++) to[i] = static_cast<uint8_t>(levels[i]);
#endif
    }
}

void run(const LevelsJob& j, int64_t first, int64_t last) {
  switch (j.type) {
    case Type::u8: return narrow<uint8_t>(j, first, last);
    case Type::i16: return narrow<int16_t>(j, first, last);
    case Type::i32: return narrow<int32_t>(j, first, last);
    default: return wide(j, first, last);
  }
}

}  // namespace

extern const LevelsKernel levels_kernel;
const LevelsKernel levels_kernel{run};

}  // namespace saccade::engine::SACCADE_ISA
