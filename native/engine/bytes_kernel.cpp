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
#if defined(SACCADE_NEON)
constexpr bool APART = true;  // weights of the second channel of a pair behind those of the first
#else
constexpr bool APART = false;
#endif

ALWAYS int64_t groups_of(const Bytes& p) { return (p.channels + PACK - 1) / PACK; }

int64_t room(const Block& b, const Bytes& p) { return b.T * b.in_height * b.in_width * groups_of(p) * 4 + 64; }

// [T][padded height][padded width][groups] numbers of 32 bits: bytes, or pairs of 16 bits; and sums of places, if asked for.
void prepare(const Block& b, const Bytes& p, int64_t first, int64_t last) {
  const int64_t groups = groups_of(p), row = b.in_width * groups;
  for (int64_t u = first; u < last; u++) {
    uint32_t* to = static_cast<uint32_t*>(b.prepared) + u * row;
    int32_t* sums = p.places ? p.places + u * b.in_width : nullptr;
    const int64_t t = u / b.in_height, y = u % b.in_height - p.pad_y;
    if (sums) std::memset(sums, 0, 4 * b.in_width);
    if (y < 0 || y >= p.height) {
      std::memset(to, 0, 4 * row);
      continue;
    }
    std::memset(to, 0, 4 * p.pad_x * groups);
    std::memset(to + (p.pad_x + p.width) * groups, 0, 4 * p.pad_x * groups);
    to += p.pad_x * groups;
    const uint8_t* from = p.x + t * p.step + y * p.row;
    if (sums)
      for (int64_t c = 0; c < p.channels; c++)
        for (int64_t x = 0; x < p.width; x++) sums[p.pad_x + x] += from[x * p.place + c * p.channel];
    if (p.channels == 3 && p.place == 1) {  // pictures
      const uint8_t *one = from, *two = from + p.channel, *three = from + 2 * p.channel;
      for (int64_t x = 0; x < p.width; x++) {
        const uint32_t r = one[x], g = two[x], bl = three[x];
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
      static_cast<int16_t*>(weights)[word * 32 + (APART ? c % 2 * 16 + o % 16 : o % 16 * 2 + c % 2)] =
          static_cast<int16_t>(digit);
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
#elif defined(SACCADE_NEON)
typedef Lanes Sums;
ALWAYS Sums zero() { return {}; }
ALWAYS void multiply(Sums& acc, uint32_t x, const char* w) {
  const int16x4_t by = vreinterpret_s16_u32(vdup_n_u32(x));
#pragma GCC unroll 4
  for (int k = 0; k < 4; k++) {
    acc.at[k] = vmlal_lane_s16(acc.at[k], load_as<int16x4_t>(w + 8 * k), by, 0);
    acc.at[k] = vmlal_lane_s16(acc.at[k], load_as<int16x4_t>(w + 32 + 8 * k), by, 1);
  }
}
ALWAYS Sixteen sixteen(const Sums& acc) { return sixteen_of(acc); }
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

// Sums of 16 outputs in 64 bits.
template <int D> ALWAYS void wide_sums(const Sums* digits, int64_t* to) {
#if defined(__AVX512F__)
  for (int half = 0; half < 2; half++) {
    __m512i total = _mm512_setzero_si512();
#pragma GCC unroll 4
    for (int d = D - 1; d >= 0; d--) {
      const __m256i x = half ? _mm512_extracti64x4_epi64(digits[d], 1) : _mm512_castsi512_si256(digits[d]);
      total = _mm512_add_epi64(_mm512_slli_epi64(total, DIGIT), _mm512_cvtepi32_epi64(x));
    }
    _mm512_storeu_si512(to + 8 * half, total);
  }
#else
  for (int i = 0; i < 16; i++) to[i] = 0;
  for (int d = D - 1; d >= 0; d--) {
    int32_t at[16];
    store16(at, sixteen(digits[d]));
    for (int i = 0; i < 16; i++) to[i] = to[i] * (int64_t{1} << DIGIT) + at[i];
  }
#endif
}

// The same where 32 bits hold the sums.
template <int D> ALWAYS Sixteen narrow_sums(const Sums* digits) {
#if defined(__AVX512F__)
  __m512i total = digits[D - 1];
#pragma GCC unroll 4
  for (int d = D - 2; d >= 0; d--) total = _mm512_add_epi32(_mm512_slli_epi32(total, DIGIT), digits[d]);
  return total;
#else
  Sixteen total = sixteen(digits[D - 1]);
  for (int d = D - 2; d >= 0; d--) {
    const Sixteen low = sixteen(digits[d]);
    for (int i = 0; i < 16; i++) total.at[i] = static_cast<int32_t>(static_cast<uint32_t>(total.at[i]) << DIGIT) + low.at[i];
  }
  return total;
#endif
}

// Which of 16 NB outputs have a sum of at least their drive.
template <int NB, int D> struct Narrow {
  Sixteen sums[NB];
  template <class G> ALWAYS_MEMBER Narrow(const G& give, const Sums (*digits)[D], int64_t seen) {
#pragma GCC unroll 4
    for (int n = 0; n < NB; n++) sums[n] = give.brought(narrow_sums<D>(digits[n]), seen);
  }
  ALWAYS_MEMBER uint64_t reach(const int32_t* drives) const {
#if defined(__AVX512F__)
    __mmask16 m[4] = {};
#pragma GCC unroll 4
    for (int n = 0; n < NB; n++) m[n] = _mm512_cmpge_epi32_mask(sums[n], load16(drives + 16 * n));
    return _mm512_kunpackd(_mm512_kunpackw(m[3], m[2]), _mm512_kunpackw(m[1], m[0]));
#else
    uint64_t found = 0;
#pragma GCC unroll 4
    for (int n = 0; n < NB; n++)
      found |= static_cast<uint64_t>(bits_of(reaches(load_lanes(sums[n].at), load_lanes(drives + 16 * n)))) << (16 * n);
    return found;
#endif
  }
};
template <int NB, int D> struct Wide {
  int64_t sums[NB * 16];
  ALWAYS_MEMBER Wide(const Sums (*digits)[D]) {
    for (int n = 0; n < NB; n++) wide_sums<D>(digits[n], sums + 16 * n);
  }
  ALWAYS_MEMBER uint64_t reach(const int64_t* drives) const {
    uint64_t found = 0;
#if defined(__AVX512F__)
#pragma GCC unroll 8
    for (int i = 0; i < 2 * NB; i++)
      found |= static_cast<uint64_t>(_mm512_cmpge_epi64_mask(_mm512_loadu_si512(sums + 8 * i),
                                                             _mm512_loadu_si512(drives + 8 * i))) << (8 * i);
#else
    for (int i = 0; i < 16 * NB; i++) found |= static_cast<uint64_t>(sums[i] >= drives[i]) << i;
#endif
    return found;
  }
};

// Spikes of 64 outputs at all steps: who fires first within k + 1 steps does so every k + 1 steps again. STEPS 0: any number.
template <int STEPS, class Outputs, class Drive, class G>
ALWAYS void pattern(const Block& b, const Bytes& p, const G& give, const Outputs& sums, const Drive* drives, int64_t place,
                    int64_t c) {
  drives += p.classes[place] * p.steps * b.padded_out + c;
  uint64_t before = 0;
  if (STEPS == 4) {
    const uint64_t one = sums.reach(drives), two = sums.reach(drives + b.padded_out);
    const uint64_t three = sums.reach(drives + 2 * b.padded_out), four = sums.reach(drives + 3 * b.padded_out);
    give.put(one, 0, place, c);
    give.put(two, 1, place, c);
    give.put(one | (three & ~two), 2, place, c);
    give.put(two | (four & ~three), 3, place, c);
    return;
  }
  uint64_t steps[16] = {};
  for (int64_t k = 0; k < p.steps; k++) {
    const uint64_t within = sums.reach(drives + k * b.padded_out), first = within & ~before;
    before = within;
    for (int64_t t = k; t < p.steps; t += k + 1) steps[t] |= first;
  }
  for (int64_t t = 0; t < p.steps; t++) give.put(steps[t], t, place, c);
}

// Two places and 16 NB outputs at a time; all digits one after the other.
template <int NB, int D, int STEPS, class G>
ALWAYS void outputs(const Block& b, const Bytes& p, const G& give, int64_t t, int64_t place, int64_t places, int64_t c,
                    int32_t* v) {
  constexpr int TOGETHER = WIDTH == 16 ? 2 : NB;  // blocks whose sums stay in registers
  const int64_t groups = groups_of(p), words = b.kernel_y * b.kernel_x * groups;
  Sums acc[2][NB][D];
  const uint32_t* x[2];
  for (int64_t k = 0; k < 2; k++) {
    const int64_t at = place + (k < places ? k : 0);
    x[k] = static_cast<const uint32_t*>(b.prepared) +
           ((t * b.in_height + at / b.out_width * b.stride_y) * b.in_width + at % b.out_width * b.stride_x) * groups;
  }
  const int64_t runs = b.dilation_x == 1 ? 1 : b.kernel_x, run = b.dilation_x == 1 ? b.kernel_x * groups : groups;
#pragma GCC unroll 4
  for (int d = 0; d < D; d++)
#pragma GCC unroll 2
    for (int first = 0; first < NB; first += TOGETHER) {
      Sums sums[2][TOGETHER];
      for (auto& row : sums)
        for (auto& one : row) one = zero();
      const char* w = static_cast<const char*>(b.weights) + (d * b.padded_out / 16 + c / 16 + first) * words * 64;
      for (int64_t ky = 0; ky < b.kernel_y; ky++)
        for (int64_t kx = 0; kx < runs; kx++) {
          const int64_t at = (ky * b.dilation_y * b.in_width + kx * b.dilation_x) * groups;
          for (int64_t g = 0; g < run; g++, w += 64)
#pragma GCC unroll 4
            for (int n = 0; n < TOGETHER; n++) {
              multiply(sums[0][n], x[0][at + g], w + n * words * 64);
              multiply(sums[1][n], x[1][at + g], w + n * words * 64);
            }
        }
      for (int k = 0; k < 2; k++)
        for (int n = 0; n < TOGETHER; n++) acc[k][first + n][d] = sums[k][n];
    }
  const int64_t at = t * b.out_height * b.out_width + place;
  const int64_t seen[2] = {p.seen ? p.seen[at] : 0, p.seen ? p.seen[at + places - 1] : 0};
#pragma GCC unroll 2
  for (int64_t k = 0; k < 2; k++) {
    if (k == places) break;
    if (p.narrow_drives) {
      pattern<STEPS>(b, p, give, Narrow<NB, D>(give, acc[k], seen[k]), p.narrow_drives, place + k, c);
    } else if (p.classes) {
      pattern<STEPS>(b, p, give, Wide<NB, D>(acc[k]), p.drives, place + k, c);
    } else if (p.sums64) {
      for (int n = 0; n < NB; n++) {
        int64_t wide[16];
        wide_sums<D>(acc[k][n], wide);
        const int64_t first = c + 16 * n, left = b.out - first;
        for (int64_t i = 0; i < 16 && i < left; i++) p.sums64[(at + k) * b.out + first + i] = wide[i];
      }
    } else {
      Sixteen sums[4] = {};
      for (int n = 0; n < NB; n++) sums[n] = narrow_sums<D>(acc[k][n]);
      give(sums, seen[k], t, place + k, c, v + k * 2 * b.padded_out);
    }
  }
}

template <int D, int STEPS> void run_digits(const Block& b, const Bytes& p, int64_t first, int64_t last) {
  int32_t* v = reinterpret_cast<int32_t*>(b.scratch);
  const int64_t end = last * b.out_width;
  with_giver(b, [&](const auto& give) {
    for (int64_t place = first * b.out_width; place < end; place += 2) {
      const int64_t places = end - place < 2 ? 1 : 2;
      for (int64_t k = 0; k < places; k++) rest(b, v + k * 2 * b.padded_out, place + k);
      for (int64_t t = 0; t < b.T; t++)
        for (int64_t c = 0; c < b.padded_out; c += 64) {
          if (b.out - c > 32) outputs<4, D, STEPS>(b, p, give, t, place, places, c, v);
          else outputs<2, D, STEPS>(b, p, give, t, place, places, c, v);
        }
      for (int64_t k = 0; k < places; k++) keep(b, v + k * 2 * b.padded_out, place + k);
    }
  });
}

// Where weights have a base: sums of the bytes that each output sees.
void see(const Block& b, const Bytes& p, int64_t first, int64_t last) {
  for (int64_t t = 0; t < b.T; t++)
    for (int64_t oy = first; oy < last; oy++) {
      int32_t* to = p.seen + (t * b.out_height + oy) * b.out_width;
      for (int64_t ox = 0; ox < b.out_width; ox++) to[ox] = 0;
      for (int64_t ky = 0; ky < b.kernel_y; ky++) {
        const int32_t* row = p.places + (t * b.in_height + oy * b.stride_y + ky * b.dilation_y) * b.in_width;
        for (int64_t kx = 0; kx < b.kernel_x; kx++)
          for (int64_t ox = 0; ox < b.out_width; ox++) to[ox] += row[ox * b.stride_x + kx * b.dilation_x];
      }
    }
}

void run(const Block& b, const Bytes& p, int64_t first, int64_t last) {
  if (p.seen) see(b, p, first, last);
  if (p.classes && p.steps == 4) {
    if (p.digits == 1) return run_digits<1, 4>(b, p, first, last);
    if (p.digits == 2) return run_digits<2, 4>(b, p, first, last);
    if (p.digits == 3) return run_digits<3, 4>(b, p, first, last);
    return run_digits<4, 4>(b, p, first, last);
  }
  if (p.digits == 1) return run_digits<1, 0>(b, p, first, last);
  if (p.digits == 2) return run_digits<2, 0>(b, p, first, last);
  if (p.digits == 3) return run_digits<3, 0>(b, p, first, last);
  run_digits<4, 0>(b, p, first, last);
}

int64_t scratch(const Block& b) { return 16 * b.padded_out; }

}  // namespace

extern const BytesKernel bytes_kernel;
const BytesKernel bytes_kernel{DIGIT, room, prepare, weights_room, set_weight, scratch, run};

}  // namespace saccade::engine::SACCADE_ISA
