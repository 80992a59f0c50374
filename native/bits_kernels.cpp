// Spikes as bits: bit i % 8 of byte i / 8 of plane j is bit j of the index of element i on its grid.
#include "kernels.h"
#include "simd.h"

namespace saccade {
namespace SACCADE_ISA {
namespace {

ALWAYS V read(const void* x, Type type, int64_t i, int64_t n) {
  if (type == Type::float32) {
    const float* p = static_cast<const float*>(x) + i;
    return n == W ? load(p) : load_part(p, n);
  }
  H h{};
  std::memcpy(&h, static_cast<const uint16_t*>(x) + i, n * sizeof(uint16_t));
  return type == Type::bfloat16 ? from_bfloat16(h) : from_float16(h);
}

ALWAYS void write(void* x, Type type, int64_t i, int64_t n, V v) {
  if (type == Type::float32) {
    float* p = static_cast<float*>(x) + i;
    n == W ? store(p, v) : store_part(p, v, n);
    return;
  }
  const H h = type == Type::bfloat16 ? to_bfloat16(v) : to_float16(v);
  std::memcpy(static_cast<uint16_t*>(x) + i, &h, n * sizeof(uint16_t));
}

// One bit a lane, from lanes that are all ones or all zeros.
ALWAYS uint32_t mask(I lanes) {
#if defined(__AVX512DQ__)
  return _mm512_movepi32_mask((__m512i)lanes);
#elif defined(__AVX2__)
  return _mm256_movemask_ps((__m256)lanes);
#elif defined(__x86_64__)
  return _mm_movemask_ps((__m128)lanes);
#else
  uint32_t m = 0;
  for (int i = 0; i < W; ++i) m |= (lanes[i] & 1) << i;
  return m;
#endif
}

ALWAYS I lanes() {
  I i{};
  for (int k = 0; k < W; ++k) i[k] = k;
  return i;
}

ALWAYS void put(uint8_t* bits, int64_t i, uint32_t m) {  // i a multiple of W
  if constexpr (W == 16) std::memcpy(bits + i / 8, &m, 2);
  if constexpr (W == 8) bits[i / 8] = static_cast<uint8_t>(m);
  if constexpr (W == 4) {
    if (i % 8) bits[i / 8] |= static_cast<uint8_t>(m << 4);
    else bits[i / 8] = static_cast<uint8_t>(m);
  }
}

ALWAYS uint32_t take(const uint8_t* bits, int64_t i) {
  if constexpr (W == 16) return bits[i / 8] | bits[i / 8 + 1] << 8;
  if constexpr (W == 8) return bits[i / 8];
  return bits[i / 8] >> (i % 8);
}

}  // namespace

// Planes have room for whole vectors: plane_bytes is a multiple of 8.
bool pack(const void* x, Type type, Grid g, uint8_t* bits, int64_t plane_bytes, int64_t begin, int64_t end) {
  const float steps = 1.f / g.unit, low = static_cast<float>(g.low);
  const int32_t top = (1 << g.planes) - 1;
  I bad{};
  for (int64_t i = begin; i < end; i += W) {
    const V v = read(x, type, i, end - i < W ? end - i : W);
    // rounded by adding 1.5 * 2^23; a value off the grid fails the comparison, as do NaN and infinities
    const V index = ((v * steps - low) + 12582912.f) - 12582912.f;
    const V back = (index + low) * g.unit;
    I on = (back == v) & (index >= 0.f) & (index <= static_cast<float>(top));
    if (end - i >= W) {
      bad |= ~on;
    } else {
      const I there = lanes() < static_cast<int32_t>(end - i);
      bad |= ~on & there;
      on &= there;  // bits behind the last element are 0
    }
    const I k = __builtin_convertvector(on ? index : V{}, I);
    for (int j = 0; j < g.planes; ++j) put(bits + j * plane_bytes, i, mask(-((k >> j) & 1)));
  }
  return mask(bad) == 0;
}

void unpack(const uint8_t* bits, int64_t plane_bytes, Grid g, void* x, Type type, int64_t begin, int64_t end) {
  const I lane = lanes();
  for (int64_t i = begin; i < end; i += W) {
    I k{};
    for (int j = 0; j < g.planes; ++j) {
      const I m = I{} + static_cast<int32_t>(take(bits + j * plane_bytes, i));
      k |= ((m >> lane) & 1) << j;
    }
    write(x, type, i, end - i < W ? end - i : W, (__builtin_convertvector(k, V) + static_cast<float>(g.low)) * g.unit);
  }
}

}  // namespace SACCADE_ISA
}  // namespace saccade
