// Layers of bytes: every product is computed. Four channels (two where the machine has no products of bytes) are multiplied at
// once with the weights of 16 outputs.
#include "neuron.h"
#include "isa.h"

namespace saccade::engine::SACCADE_ISA {
namespace {

#if defined(__AVX512VNNI__)
constexpr int PACK = 4, DIGIT = 8;
#else
constexpr int PACK = 2, DIGIT = 15;
#endif

ALWAYS int64_t groups_of(const Bytes& p) { return (p.channels + PACK - 1) / PACK; }

int64_t room(const Block& b, const Bytes& p) { return b.T * b.in_height * b.in_width * groups_of(p) * 4 + 64; }

// [T][padded height][padded width][groups] numbers of 32 bits: bytes, or pairs of 16 bits.
void prepare(const Block& b, const Bytes& p, int64_t first, int64_t last) {
  const int64_t groups = groups_of(p), row = b.in_width * groups;
  for (int64_t u = first; u < last; u++) {
    uint32_t* to = static_cast<uint32_t*>(b.prepared) + u * row;
    const int64_t t = u / b.in_height, y = u % b.in_height - p.pad_y;
    if (y < 0 || y >= p.height) {
      std::memset(to, 0, 4 * row);
      continue;
    }
    std::memset(to, 0, 4 * p.pad_x * groups);
    std::memset(to + (p.pad_x + p.width) * groups, 0, 4 * p.pad_x * groups);
    to += p.pad_x * groups;
    const uint8_t* from = p.x + t * p.step + y * p.row;
    if (p.channels == 3) {  // pictures
      const uint8_t *one = from, *two = from + p.channel, *three = from + 2 * p.channel;
      for (int64_t x = 0; x < p.width; x++) {
        const uint32_t r = one[x * p.place], g = two[x * p.place], bl = three[x * p.place];
        if (PACK == 4)
          to[x] = r | g << 8 | bl << 16;
        else
          to[2 * x] = r | g << 16, to[2 * x + 1] = bl;
      }
      continue;
    }
    for (int64_t x = 0; x < p.width; x++)
      for (int64_t g = 0; g < groups; g++) {
        uint32_t word = 0;
        for (int64_t k = 0; k < PACK && g * PACK + k < p.channels; k++)
          word |= static_cast<uint32_t>(from[x * p.place + (g * PACK + k) * p.channel]) << (32 / PACK * k);
        to[x * groups + g] = word;
      }
  }
}

// Weights [digit][16 outputs][number of 32 bits: ky, kx, group][16 lanes], of int8 or pairs of int16.
int64_t weights_room(const Block& b, const Bytes& p) {
  return p.digits * b.padded_out / 16 * b.kernel_y * b.kernel_x * groups_of(p) * 64 + 64;
}
void set_weight(const Block& b, const Bytes& p, void* weights, int64_t o, int64_t c, int64_t tap, int64_t w) {
  for (int64_t d = 0; d < p.digits; d++) {
    const int64_t half = int64_t{1} << (DIGIT - 1), digit = ((w + half) & (2 * half - 1)) - half;
    w = (w - digit) >> DIGIT;
    const int64_t word = ((d * b.padded_out / 16 + o / 16) * b.kernel_y * b.kernel_x + tap) * groups_of(p) + c / PACK;
    if (PACK == 4)
      static_cast<int8_t*>(weights)[word * 64 + o % 16 * 4 + c % 4] = static_cast<int8_t>(digit);
    else
      static_cast<int16_t*>(weights)[word * 32 + o % 16 * 2 + c % 2] = static_cast<int16_t>(digit);
  }
}

#if defined(__AVX512VNNI__)
typedef __m512i Sums;
ALWAYS Sums zero() { return _mm512_setzero_si512(); }
ALWAYS void multiply(Sums& acc, uint32_t x, const char* w) {
  acc = _mm512_dpbusd_epi32(acc, _mm512_set1_epi32(static_cast<int32_t>(x)), _mm512_loadu_si512(w));
}
ALWAYS Sixteen sixteen(Sums acc) { return acc; }
#elif defined(__AVX2__)
struct Sums {
  __m256i low, high;
};
ALWAYS Sums zero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
ALWAYS void multiply(Sums& acc, uint32_t x, const char* w) {
  const __m256i by = _mm256_set1_epi32(static_cast<int32_t>(x));
  const __m256i* at = reinterpret_cast<const __m256i*>(w);
  acc.low = _mm256_add_epi32(acc.low, _mm256_madd_epi16(by, _mm256_loadu_si256(at)));
  acc.high = _mm256_add_epi32(acc.high, _mm256_madd_epi16(by, _mm256_loadu_si256(at + 1)));
}
ALWAYS Sixteen sixteen(const Sums& acc) {
  Sixteen x;
  std::memcpy(&x, &acc, sizeof x);
  return x;
}
#else
struct Sums {
  int32_t at[16];
};
ALWAYS Sums zero() { return {}; }
ALWAYS void multiply(Sums& acc, uint32_t x, const char* w) {
  const int32_t one = static_cast<int32_t>(x & 0xffff), two = static_cast<int32_t>(x >> 16);
  int16_t by[32];
  std::memcpy(by, w, sizeof by);
  for (int i = 0; i < 16; i++) acc.at[i] += one * by[2 * i] + two * by[2 * i + 1];
}
ALWAYS Sixteen sixteen(const Sums& acc) {
  Sixteen x;
  std::memcpy(&x, &acc, sizeof x);
  return x;
}
#endif

ALWAYS void wide_sums(const Sums* digits, int64_t count, int64_t* to) {
  for (int i = 0; i < 16; i++) to[i] = 0;
  for (int64_t d = count - 1; d >= 0; d--) {
    const Sixteen x = sixteen(digits[d]);
    int32_t at[16];
    store16(at, x);
    for (int i = 0; i < 16; i++) to[i] = to[i] * (int64_t{1} << DIGIT) + at[i];
  }
}

// Spikes of 16 outputs at all steps, from their sums.
ALWAYS void pattern(const Block& b, const Bytes& p, const Sums* digits, int64_t place, int64_t c) {
  const int64_t* drives = p.drives + p.classes[place] * p.steps * b.padded_out + c;
  uint32_t within[16], steps[16] = {};  // fires within k + 1 steps
#if defined(__AVX512F__)
  __m512i low, high;
  if (p.digits == 1) {
    low = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(digits[0]));
    high = _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(digits[0], 1));
  } else {
    int64_t sums[16];
    wide_sums(digits, p.digits, sums);
    low = _mm512_loadu_si512(sums), high = _mm512_loadu_si512(sums + 8);
  }
  for (int64_t k = 0; k < p.steps; k++)
    within[k] = _mm512_cmpge_epi64_mask(low, _mm512_loadu_si512(drives + k * b.padded_out)) |
                _mm512_cmpge_epi64_mask(high, _mm512_loadu_si512(drives + k * b.padded_out + 8)) << 8;
#else
  int64_t sums[16];
  wide_sums(digits, p.digits, sums);
  for (int64_t k = 0; k < p.steps; k++) {
    within[k] = 0;
    for (int i = 0; i < 16; i++) within[k] |= static_cast<uint32_t>(sums[i] >= drives[k * b.padded_out + i]) << i;
  }
#endif
  for (int64_t k = 0; k < p.steps; k++) {
    const uint32_t first = within[k] & ~(k ? within[k - 1] : 0);
    for (int64_t t = k; t < p.steps; t += k + 1) steps[t] |= first;
  }
  for (int64_t t = 0; t < p.steps; t++) {
    uint16_t* to = reinterpret_cast<uint16_t*>(b.y + t * b.y_plane + b.where[place]) + c / 16;
    *to = static_cast<uint16_t>(b.pooled ? *to | steps[t] : steps[t]);
  }
}

ALWAYS void result(const Block& b, const Bytes& p, const Sums* digits, int64_t t, int64_t place, int64_t c, int32_t* v) {
  if (p.drives) return pattern(b, p, digits, place, c);
  if (p.sums64) {
    int64_t sums[16];
    wide_sums(digits, p.digits, sums);
    for (int64_t i = 0; i < 16 && c + i < b.out; i++) p.sums64[(t * b.out_height * b.out_width + place) * b.out + c + i] = sums[i];
    return;
  }
  if (p.digits == 1) return give(b, sixteen(digits[0]), 0, t, place, c, v);
  int64_t sums[16];
  int32_t narrow[16];
  wide_sums(digits, p.digits, sums);
  for (int i = 0; i < 16; i++) narrow[i] = static_cast<int32_t>(sums[i]);
  give(b, load16(narrow), 0, t, place, c, v);
}

// Two places and 16 NB outputs at a time; all digits one after the other.
template <int NB>
ALWAYS void outputs(const Block& b, const Bytes& p, int64_t t, int64_t place, int64_t places, int64_t c, int32_t* v) {
  const int64_t groups = groups_of(p), run = b.kernel_x * groups, words = b.kernel_y * run;
  Sums acc[2][NB][4];
  const uint32_t* x[2];
  for (int64_t k = 0; k < 2; k++) {
    const int64_t at = place + (k < places ? k : 0);
    x[k] = static_cast<const uint32_t*>(b.prepared) +
           ((t * b.in_height + at / b.out_width * b.stride_y) * b.in_width + at % b.out_width * b.stride_x) * groups;
  }
  for (int64_t d = 0; d < p.digits; d++) {
    Sums sums[2][NB];
    for (auto& row : sums)
      for (auto& one : row) one = zero();
    const char* w = static_cast<const char*>(b.weights) + (d * b.padded_out / 16 + c / 16) * words * 64;
    for (int64_t ky = 0; ky < b.kernel_y; ky++)
      for (int64_t kx = 0; kx < b.kernel_x; kx++) {
        const int64_t at = (ky * b.dilation_y * b.in_width + kx * b.dilation_x) * groups;
        for (int64_t g = 0; g < groups; g++, w += 64)
          for (int n = 0; n < NB; n++) {
            multiply(sums[0][n], x[0][at + g], w + n * words * 64);
            multiply(sums[1][n], x[1][at + g], w + n * words * 64);
          }
      }
    for (int k = 0; k < 2; k++)
      for (int n = 0; n < NB; n++) acc[k][n][d] = sums[k][n];
  }
  for (int64_t k = 0; k < places; k++)
    for (int n = 0; n < NB; n++) result(b, p, acc[k][n], t, place + k, c + 16 * n, v + k * 2 * b.padded_out);
}

void run(const Block& b, const Bytes& p, int64_t first, int64_t last) {
  int32_t* v = reinterpret_cast<int32_t*>(b.scratch);
  const int64_t end = last * b.out_width;
  for (int64_t place = first * b.out_width; place < end; place += 2) {
    const int64_t places = end - place < 2 ? 1 : 2;
    for (int64_t k = 0; k < places; k++) rest(b, v + k * 2 * b.padded_out, place + k);
    for (int64_t t = 0; t < b.T; t++)
      for (int64_t c = 0; c < b.padded_out; c += 64) {
        if (b.out - c > 32) outputs<4>(b, p, t, place, places, c, v);
        else if (b.out - c > 16) outputs<2>(b, p, t, place, places, c, v);
        else outputs<1>(b, p, t, place, places, c, v);
      }
    for (int64_t k = 0; k < places; k++) keep(b, v + k * 2 * b.padded_out, place + k);
  }
}

int64_t scratch(const Block& b) { return 16 * b.padded_out; }

}  // namespace

extern const BytesKernel bytes_kernel;
const BytesKernel bytes_kernel{DIGIT, room, prepare, weights_room, set_weight, scratch, run};

}  // namespace saccade::engine::SACCADE_ISA
