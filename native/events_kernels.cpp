// Decoders of event recordings. Each reads words one after the other and stops before one that it cannot take; `run` below cuts
// the work into blocks that stay in the first caches and checks each block's pixels and times once it is decoded. Nothing is read
// outside [begin, end), nothing written past `room`. Functions of the library are avoided: what is compiled for one instruction
// set must not be linked into another.
#include "events.h"

#include <cstring>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace saccade {
namespace SACCADE_ISA {
namespace {

#define INLINE inline __attribute__((always_inline))

template <class T> INLINE T get(const uint8_t* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}
INLINE uint32_t big(const uint8_t* p) { return __builtin_bswap32(get<uint32_t>(p)); }

// loops * 2^bits, whatever a file makes of it.
INLINE int64_t times(int64_t loops, int bits) { return static_cast<int64_t>(static_cast<uint64_t>(loops) << bits); }

struct Wrong {
  int kind = NONE;
  int64_t what = 0;
};

INLINE void put(const Columns& out, int64_t i, int64_t t, uint32_t x, uint32_t y, uint32_t p) {
  out.t[i] = t;
  out.x[i] = static_cast<uint16_t>(x);
  out.y[i] = static_cast<uint16_t>(y);
  out.p[i] = static_cast<uint8_t>(p);
}

constexpr int64_t GROUP = 16;  // words that are looked at together

// One event for each bit of 16, all of one time, row and polarity; there is room for 16. Returns how many.
INLINE int64_t spread(const Columns& out, int64_t n, int64_t t, uint32_t x, uint32_t y, uint32_t p, uint32_t bits) {
#if defined(__AVX512F__)
  const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512i place = _mm512_maskz_compress_epi32(static_cast<__mmask16>(bits), lanes);
  const __m512i time = _mm512_set1_epi64(t);
  _mm512_storeu_si512(out.t + n, time);
  _mm512_storeu_si512(out.t + n + 8, time);
  const __m512i column = _mm512_add_epi32(place, _mm512_set1_epi32(static_cast<int>(x)));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.x + n), _mm512_cvtepi32_epi16(column));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.y + n), _mm256_set1_epi16(static_cast<int16_t>(y)));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out.p + n), _mm_set1_epi8(static_cast<char>(p)));
  return __builtin_popcount(bits);
#else
  int64_t k = n;
  for (; bits; bits &= bits - 1) put(out, k++, t, x + static_cast<uint32_t>(__builtin_ctz(bits)), y, p);
  return k - n;
#endif
}

// As many for 32 bits; there is room for 32.
INLINE int64_t spread32(const Columns& out, int64_t n, int64_t t, uint32_t x, uint32_t y, uint32_t p, uint32_t bits) {
  const int64_t count = __builtin_popcount(bits);
#if defined(__AVX512F__)
  if (__builtin_expect(count <= 8, 1)) {  // most words hold few
    const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i right = _mm512_add_epi32(lanes, _mm512_set1_epi32(16));
    const __m512i few = _mm512_maskz_compress_epi32(static_cast<__mmask16>(bits), lanes);
    const __m512i rest = _mm512_maskz_compress_epi32(static_cast<__mmask16>(bits >> 16), right);
    const uint32_t after = ~0u << __builtin_popcount(bits & 0xffff);
    const __m256i place = _mm512_castsi512_si256(_mm512_mask_expand_epi32(few, static_cast<__mmask16>(after), rest));
    const __m256i column = _mm256_add_epi32(place, _mm256_set1_epi32(static_cast<int>(x)));
    _mm512_storeu_si512(out.t + n, _mm512_set1_epi64(t));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out.x + n), _mm256_cvtepi32_epi16(column));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out.y + n), _mm_set1_epi16(static_cast<int16_t>(y)));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out.p + n), _mm_set1_epi8(static_cast<char>(p)));
    return count;
  }
#endif
  const int64_t first = spread(out, n, t, x, y, p, bits & 0xffff);
  spread(out, n + first, t, x + 16, y, p, bits >> 16);
  return count;
}

// Prophesee EVT 2.0: type:4, low time:6, x:11, y:11. TIME_HIGH holds the upper 28 bits of 34; they wrap where they fall by more
// than half their range.
struct Evt2 {
  static constexpr int64_t UNIT = 4, MOST = 1;
  int64_t high, loops, dated;
  explicit Evt2(const Request& q) : high(q.state[1]), loops(q.state[2]), dated(q.state[3]) {}
  void save(int64_t* s) const { s[1] = high, s[2] = loops, s[3] = dated; }

  INLINE bool rare(uint32_t type, int64_t upper, Wrong& wrong) {
    if (type == 8) {
      if (dated && upper < high && high - upper > (int64_t{1} << 27)) ++loops;
      high = upper;
      dated = 1;
      return true;
    }
    if (type == 0xA || type == 0xE || type == 0xF) return true;  // triggers and what vendors add
    wrong = {RESERVED, type};
    return false;
  }
  INLINE int64_t base() const { return times(loops, 34) + (high << 6); }

  int64_t read(const uint8_t* data, int64_t& at, int64_t end, int64_t words, Columns out, int64_t room, Wrong& wrong) {
    int64_t n = 0;
    while (words > 0 && at + UNIT <= end && n < room) {
      if (dated && words >= GROUP && at + GROUP * UNIT <= end && n + GROUP <= room) {
        uint32_t w[GROUP], any = 0;
        std::memcpy(w, data + at, sizeof w);
        for (int64_t i = 0; i < GROUP; ++i) any |= w[i];
        if (!(any & 0xE0000000u)) {
          const int64_t b = base();
          int64_t* __restrict t = out.t + n;
          uint16_t* __restrict x = out.x + n;
          uint16_t* __restrict y = out.y + n;
          uint8_t* __restrict p = out.p + n;
          for (int64_t i = 0; i < GROUP; ++i) t[i] = b + (w[i] >> 22 & 63);
          for (int64_t i = 0; i < GROUP; ++i) x[i] = static_cast<uint16_t>(w[i] >> 11 & 0x7ff);
          for (int64_t i = 0; i < GROUP; ++i) y[i] = static_cast<uint16_t>(w[i] & 0x7ff);
          for (int64_t i = 0; i < GROUP; ++i) p[i] = static_cast<uint8_t>(w[i] >> 28);
          n += GROUP;
          at += GROUP * UNIT;
          words -= GROUP;
          continue;
        }
        int64_t b = base();
        for (int64_t i = 0; i < GROUP; ++i, at += UNIT) {
          const uint32_t type = w[i] >> 28;
          if (type < 2) {
            put(out, n++, b + (w[i] >> 22 & 63), w[i] >> 11 & 0x7ff, w[i] & 0x7ff, type);
          } else {
            if (!rare(type, w[i] & 0x0fffffff, wrong)) return n;
            b = base();
          }
        }
        words -= GROUP;
        continue;
      }
      const uint32_t w = get<uint32_t>(data + at), type = w >> 28;
      if (type < 2) {
        if (!dated) {
          wrong = {NO_TIME, 0};
          return n;
        }
        put(out, n++, base() + (w >> 22 & 63), w >> 11 & 0x7ff, w & 0x7ff, type);
      } else if (!rare(type, w & 0x0fffffff, wrong)) {
        return n;
      }
      at += UNIT;
      --words;
    }
    return n;
  }
};

// EVT 2.1: type:4, low time:6, x:11, y:11, then one bit for each of 32 pixels to the right of x. Some sensors send the upper half
// of a word first.
template <bool Halves> struct Evt21 {
  static constexpr int64_t UNIT = 8, MOST = 32;
  Evt2 time;
  explicit Evt21(const Request& q) : time(q) {}
  void save(int64_t* s) const { time.save(s); }

  int64_t read(const uint8_t* data, int64_t& at, int64_t end, int64_t words, Columns out, int64_t room, Wrong& wrong) {
    int64_t n = 0;
    for (; words > 0 && at + UNIT <= end; at += UNIT, --words) {
      uint64_t w = get<uint64_t>(data + at);
      if (Halves) w = w << 32 | w >> 32;
      const uint32_t type = static_cast<uint32_t>(w >> 60);
      if (type < 2) {
        uint32_t mask = static_cast<uint32_t>(w);
        if (n + __builtin_popcount(mask) > room) return n;
        if (!time.dated) {
          wrong = {NO_TIME, 0};
          return n;
        }
        const int64_t t = time.base() + static_cast<int64_t>(w >> 54 & 63);
        const uint32_t x = w >> 43 & 0x7ff, y = w >> 32 & 0x7ff;
        if (n + MOST <= room) {
          n += spread32(out, n, t, x, y, type, mask);
        } else {
          for (; mask; mask &= mask - 1) put(out, n++, t, x + static_cast<uint32_t>(__builtin_ctz(mask)), y, type);
        }
      } else if (!time.rare(type, static_cast<int64_t>(w >> 32 & 0x0fffffff), wrong)) {
        return n;
      }
    }
    return n;
  }
};

// EVT 3.0: words of 16 bits that change a state. TIME_HIGH is repeated; a new one sets the lower 12 bits to 0, and the 24 bits wrap
// where it falls by more than half its range. Vectors are taken word by word, whatever stands between them.
struct Evt3 {
  static constexpr int64_t UNIT = 2, MOST = 12;
  int64_t time;  // without the lower 12 bits; below 0 before the first TIME_HIGH
  uint32_t low, y, base, polarity, has_base;
  explicit Evt3(const Request& q)
      : time(q.state[1]), low(static_cast<uint32_t>(q.state[2])), y(static_cast<uint32_t>(q.state[3])),
        base(static_cast<uint32_t>(q.state[4])), polarity(static_cast<uint32_t>(q.state[5])),
        has_base(static_cast<uint32_t>(q.state[6])) {}
  void save(int64_t* s) const {
    s[1] = time, s[2] = low, s[3] = y, s[4] = base, s[5] = polarity, s[6] = has_base;
  }

  static constexpr uint32_t SIMPLE = 0x45;  // kinds Y, X and TIME_LOW
  static INLINE uint32_t vector_bits(uint32_t w) { return w >> 12 == 4 ? w & 0xfff : w & 0xff; }

  // Any word but Y, X and TIME_LOW. False where it is wrong. wide: there is room for 16 events.
  INLINE bool other(uint32_t w, const Columns& out, int64_t& n, bool wide, Wrong& wrong) {
    const uint32_t type = w >> 12;
    switch (type) {
      case 3:
        base = w & 0x7ff;
        polarity = w >> 11 & 1;
        has_base = 1;
        return true;
      case 4:
      case 5: {
        if (!has_base || time < 0) {
          wrong = {has_base ? NO_TIME : NO_BASE, 0};
          return false;
        }
        uint32_t bits = vector_bits(w);
        if (wide) n += spread(out, n, time | low, base, y, polarity, bits);
        else
          for (; bits; bits &= bits - 1)
            put(out, n++, time | low, base + static_cast<uint32_t>(__builtin_ctz(bits)), y, polarity);
        base += type == 4 ? 12 : 8;
        return true;
      }
      case 8: {
        const int64_t high = static_cast<int64_t>(w & 0xfff) << 12, was = time & 0xfff000;
        if (time < 0) {
          time = high;
          low = 0;
        } else if (high != was) {
          const int64_t loop = high < was && was - high > 0x800000 ? int64_t{1} << 24 : 0;
          time = time - was + high + loop;
          low = 0;
        }
        return true;
      }
      case 7:
      case 0xA:
      case 0xE:
      case 0xF:
        return true;  // triggers and what continues them
      default:
        wrong = {RESERVED, type};
        return false;
    }
  }

#if defined(__AVX512F__)
  // 16 words at once, up to the first that is not Y, X or TIME_LOW: the row and the time of an X are those of the last such word
  // before it, found by the bits below its own. There is room for 16 events. `rows` and `lows` go on. Returns the words taken.
  static INLINE int64_t together(const uint8_t* from, const Columns& out, int64_t& n, int64_t time, __m512i& rows, __m512i& lows) {
    const __m512i below = _mm512_set_epi32(0x7fff, 0x3fff, 0x1fff, 0xfff, 0x7ff, 0x3ff, 0x1ff, 0xff, 0x7f, 0x3f, 0x1f, 0xf, 7, 3,
                                           1, 0);
    const __m512i last = _mm512_set1_epi32(31), bit = _mm512_set1_epi32(1), eleven = _mm512_set1_epi32(0x7ff);
    const __m512i w = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    const __m512i kind = _mm512_srli_epi32(w, 12);
    uint32_t x = _mm512_cmpeq_epi32_mask(kind, _mm512_set1_epi32(2)), y = _mm512_testn_epi32_mask(kind, kind);
    uint32_t t = _mm512_cmpeq_epi32_mask(kind, _mm512_set1_epi32(6));
    const int64_t taken = __builtin_ctz(~(x | y | t) | 0x10000u);
    const uint32_t live = (1u << taken) - 1;
    x &= live, y &= live, t &= live;
    const __m512i payload = _mm512_and_si512(w, _mm512_set1_epi32(0xfff));
    const __m512i before_y = _mm512_and_si512(_mm512_set1_epi32(static_cast<int>(y)), below);
    const __m512i before_t = _mm512_and_si512(_mm512_set1_epi32(static_cast<int>(t)), below);
    const __m512i row = _mm512_mask_permutexvar_epi32(rows, _mm512_test_epi32_mask(before_y, before_y),
                                                      _mm512_sub_epi32(last, _mm512_lzcnt_epi32(before_y)), payload);
    const __m512i low = _mm512_mask_permutexvar_epi32(lows, _mm512_test_epi32_mask(before_t, before_t),
                                                      _mm512_sub_epi32(last, _mm512_lzcnt_epi32(before_t)), payload);
    const __mmask16 events = static_cast<__mmask16>(x);
    const __m512i both = _mm512_maskz_compress_epi32(events, _mm512_or_si512(payload, _mm512_slli_epi32(row, 12)));
    const __m512i when = _mm512_maskz_compress_epi32(events, low);
    const __m512i high = _mm512_set1_epi64(time);
    _mm512_storeu_si512(out.t + n, _mm512_or_si512(high, _mm512_cvtepu32_epi64(_mm512_castsi512_si256(when))));
    _mm512_storeu_si512(out.t + n + 8, _mm512_or_si512(high, _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(when, 1))));
    const __m512i column = _mm512_and_si512(both, eleven), line = _mm512_and_si512(_mm512_srli_epi32(both, 12), eleven);
    const __m512i sign = _mm512_and_si512(_mm512_srli_epi32(both, 11), bit);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.x + n), _mm512_cvtepi32_epi16(column));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.y + n), _mm512_cvtepi32_epi16(line));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out.p + n), _mm512_cvtepi32_epi8(sign));
    n += __builtin_popcount(x);
    const auto of_last = [](uint32_t mask) { return _mm512_set1_epi32(31 - __builtin_clz(mask | 1)); };
    rows = _mm512_mask_permutexvar_epi32(rows, y ? 0xffff : 0, of_last(y), payload);
    lows = _mm512_mask_permutexvar_epi32(lows, t ? 0xffff : 0, of_last(t), payload);
    return taken;
  }

  // As long as there are 16 words and room; false where a word is wrong.
  INLINE bool many(const uint8_t* data, int64_t& at, int64_t end, int64_t& words, const Columns& out, int64_t& n, int64_t room,
                   Wrong& wrong) {
    __m512i rows = _mm512_set1_epi32(static_cast<int>(y)), lows = _mm512_set1_epi32(static_cast<int>(low));
    bool right = true;
    while (right && words >= GROUP && at + GROUP * UNIT <= end && n + GROUP <= room) {
      const int64_t taken = together(data + at, out, n, time, rows, lows);
      at += taken * UNIT;
      words -= taken;
      if (taken == GROUP) continue;
      y = static_cast<uint32_t>(_mm512_cvtsi512_si32(rows)) & 0x7ff;
      low = static_cast<uint32_t>(_mm512_cvtsi512_si32(lows));
      for (; words > 0 && at + UNIT <= end && n + GROUP <= room; at += UNIT, --words) {
        const uint32_t w = get<uint16_t>(data + at);
        if (SIMPLE >> (w >> 12) & 1) break;
        right = other(w, out, n, true, wrong);
        if (!right) break;
      }
      lows = _mm512_set1_epi32(static_cast<int>(low));
    }
    y = static_cast<uint32_t>(_mm512_cvtsi512_si32(rows)) & 0x7ff;
    low = static_cast<uint32_t>(_mm512_cvtsi512_si32(lows));
    return right;
  }
#else
  // The latest word of each kind is kept in a table: no branch tells Y, X and TIME_LOW apart.
  INLINE bool many(const uint8_t* data, int64_t& at, int64_t end, int64_t& words, const Columns& out, int64_t& n, int64_t room,
                   Wrong& wrong) {
    uint32_t latest[16] = {};
    latest[0] = y;
    latest[6] = low;
    bool right = true;
    for (; words > 0 && at + UNIT <= end && n + MOST < room; at += UNIT, --words) {
      const uint32_t w = get<uint16_t>(data + at), type = w >> 12;
      if (__builtin_expect(SIMPLE >> type & 1, 1)) {
        latest[type] = w & 0xfff;
        put(out, n, time | latest[6], w & 0x7ff, latest[0] & 0x7ff, w >> 11 & 1);
        n += type == 2;
        continue;
      }
      y = latest[0] & 0x7ff;
      low = latest[6];
      right = other(w, out, n, false, wrong);
      if (!right) break;
      latest[6] = low;
    }
    y = latest[0] & 0x7ff;
    low = latest[6];
    return right;
  }
#endif

  int64_t read(const uint8_t* data, int64_t& at, int64_t end, int64_t words, Columns out, int64_t room, Wrong& wrong) {
    int64_t n = 0;
    while (words > 0 && at + UNIT <= end) {
      if (time >= 0 && words >= GROUP && n + GROUP < room && at + GROUP * UNIT <= end) {
        if (!many(data, at, end, words, out, n, room, wrong)) return n;
        continue;
      }
      const uint32_t w = get<uint16_t>(data + at), type = w >> 12;
      if (type == 2) {
        if (n == room) return n;
        if (time < 0) {
          wrong = {NO_TIME, 0};
          return n;
        }
        put(out, n++, time | low, w & 0x7ff, y, w >> 11 & 1);
      } else if (type == 0) {
        y = w & 0x7ff;
      } else if (type == 6) {
        low = w & 0xfff;
      } else {
        if ((type == 4 || type == 5) && n + __builtin_popcount(vector_bits(w)) > room) return n;
        if (!other(w, out, n, false, wrong)) return n;
      }
      at += UNIT;
      --words;
    }
    return n;
  }
};

// Records of one length and one event at most: a decoder says what is in one.
enum Found { NOTHING, EVENT, FAULTY };

template <class R> struct Records : R {
  static constexpr int64_t UNIT = R::UNIT, MOST = 1;
  explicit Records(const Request& q) : R(q) {}
  int64_t read(const uint8_t* data, int64_t& at, int64_t end, int64_t words, Columns out, int64_t room, Wrong& wrong) {
    int64_t n = 0;
    for (; words > 0 && at + UNIT <= end && n < room; at += UNIT, --words) {
      const Found found = this->one(data + at, out, n, wrong);
      if (found == FAULTY) return n;
      n += found == EVENT;
    }
    return n;
  }
};

// 32 bits of time that wrap where they fall by more than half their range.
struct Wrapping {
  int64_t loops, before;
  explicit Wrapping(const Request& q) : loops(q.state[1]), before(q.state[2]) {}
  void save(int64_t* s) const { s[1] = loops, s[2] = before; }
  INLINE int64_t at(uint32_t t) {
    if (__builtin_expect(t < before && before - t > (int64_t{1} << 31), 0)) ++loops;
    before = t;
    return times(loops, 32) + t;
  }
};

// Prophesee DAT, version 2: time:32, then x:14, y:14, polarity:4 from the lowest bit.
struct Dat : Wrapping {
  static constexpr int64_t UNIT = 8, MOST = 1;
  explicit Dat(const Request& q) : Wrapping(q) {}
  int64_t read(const uint8_t* data, int64_t& at, int64_t end, int64_t words, Columns out, int64_t room, Wrong&) {
    int64_t n = 0;
    while (words > 0 && at + UNIT <= end && n < room) {
      if (words >= GROUP && at + GROUP * UNIT <= end && n + GROUP <= room) {
        uint32_t w[2 * GROUP], time[GROUP], place[GROUP];
        std::memcpy(w, data + at, sizeof w);
        for (int64_t i = 0; i < GROUP; ++i) time[i] = w[2 * i], place[i] = w[2 * i + 1];
        uint32_t falls = time[0] < before;
        for (int64_t i = 1; i < GROUP; ++i) falls |= time[i] < time[i - 1];
        if (!falls) {
          const int64_t b = times(loops, 32);
          int64_t* __restrict t = out.t + n;
          uint16_t* __restrict x = out.x + n;
          uint16_t* __restrict y = out.y + n;
          uint8_t* __restrict p = out.p + n;
          for (int64_t i = 0; i < GROUP; ++i) t[i] = b + time[i];
          for (int64_t i = 0; i < GROUP; ++i) x[i] = static_cast<uint16_t>(place[i] & 0x3fff);
          for (int64_t i = 0; i < GROUP; ++i) y[i] = static_cast<uint16_t>(place[i] >> 14 & 0x3fff);
          for (int64_t i = 0; i < GROUP; ++i) p[i] = place[i] >> 28 ? 1 : 0;
          before = time[GROUP - 1];
          n += GROUP;
          at += GROUP * UNIT;
          words -= GROUP;
          continue;
        }
      }
      const uint32_t place = get<uint32_t>(data + at + 4);
      put(out, n++, Wrapping::at(get<uint32_t>(data + at)), place & 0x3fff, place >> 14 & 0x3fff, place >> 28 ? 1 : 0);
      at += UNIT;
      --words;
    }
    return n;
  }
};

// N-MNIST and SLAYER bs2: x:8, y:8, polarity:1, time:23, big-endian. Row 240 marks 2^13 us more (Orchard et al. 2015).
struct Bs2 {
  static constexpr int64_t UNIT = 5, MOST = 1;
  int64_t more;
  explicit Bs2(const Request& q) : more(q.state[1]) {}
  void save(int64_t* s) const { s[1] = more; }
  int64_t read(const uint8_t* data, int64_t& at, int64_t end, int64_t words, Columns out, int64_t room, Wrong&) {
    int64_t n = 0;
    while (words > 0 && at + UNIT <= end && n < room) {
      if (words >= GROUP && at + GROUP * UNIT + 3 <= end && n + GROUP <= room) {
        uint32_t first[GROUP], time[GROUP], marks = 0;
        for (int64_t i = 0; i < GROUP; ++i) first[i] = get<uint32_t>(data + at + i * UNIT);
        for (int64_t i = 0; i < GROUP; ++i) time[i] = big(data + at + i * UNIT + 1) & 0x7fffff;
        for (int64_t i = 0; i < GROUP; ++i) marks |= (first[i] >> 8 & 0xff) == 240;
        if (!marks) {
          int64_t* __restrict t = out.t + n;
          uint16_t* __restrict x = out.x + n;
          uint16_t* __restrict y = out.y + n;
          uint8_t* __restrict p = out.p + n;
          for (int64_t i = 0; i < GROUP; ++i) t[i] = more + time[i];
          for (int64_t i = 0; i < GROUP; ++i) x[i] = static_cast<uint16_t>(first[i] & 0xff);
          for (int64_t i = 0; i < GROUP; ++i) y[i] = static_cast<uint16_t>(first[i] >> 8 & 0xff);
          for (int64_t i = 0; i < GROUP; ++i) p[i] = first[i] >> 23 & 1;
          n += GROUP;
          at += GROUP * UNIT;
          words -= GROUP;
          continue;
        }
      }
      const uint8_t* b = data + at;
      if (b[1] == 240) more += 1 << 13;
      else put(out, n++, more + ((b[2] & 0x7f) << 16 | b[3] << 8 | b[4]), b[0], b[1], b[2] >> 7);
      at += UNIT;
      --words;
    }
    return n;
  }
};

// AEDAT 2 of a DVS128, as jAER's extractor takes the address: bit 15 special, y from below:7, x from the right:7, off:1.
struct Dvs128 : Wrapping {
  static constexpr int64_t UNIT = 8;
  explicit Dvs128(const Request& q) : Wrapping(q) {}
  INLINE Found one(const uint8_t* from, const Columns& out, int64_t n, Wrong& wrong) {
    const uint32_t a = big(from);
    if (a >> 16) {
      wrong = {RESERVED, a};
      return FAULTY;
    }
    if (a & 0x8000) return NOTHING;
    put(out, n, Wrapping::at(big(from + 4)), 127 - (a >> 1 & 0x7f), 127 - (a >> 8 & 0x7f), 1 - (a & 1));
    return EVENT;
  }
};

// AEDAT 2 of a DAVIS: bit 31 frames and motion, y from below:9, x from the right:10, on:1, bit 10 external.
struct Davis : Wrapping {
  static constexpr int64_t UNIT = 8;
  uint32_t right, bottom;
  explicit Davis(const Request& q)
      : Wrapping(q), right(static_cast<uint32_t>(q.width - 1)), bottom(static_cast<uint32_t>(q.height - 1)) {}
  INLINE Found one(const uint8_t* from, const Columns& out, int64_t n, Wrong&) {
    const uint32_t a = big(from);
    if (a >> 31 || a >> 10 & 1) return NOTHING;
    put(out, n, Wrapping::at(big(from + 4)), right - (a >> 12 & 0x3ff), bottom - (a >> 22 & 0x1ff), a >> 11 & 1);
    return EVENT;
  }
};

// A polarity packet of AEDAT 3.1: valid:1, on:1, y:15, x:15, time:31; the packet's header counts how often the time has wrapped.
struct Aedat3 {
  static constexpr int64_t UNIT = 8;
  int64_t more;
  explicit Aedat3(const Request& q) : more(q.state[1]) {}
  void save(int64_t*) const {}
  INLINE Found one(const uint8_t* from, const Columns& out, int64_t n, Wrong&) {
    const uint32_t a = get<uint32_t>(from);
    if (!(a & 1)) return NOTHING;
    put(out, n, more + get<int32_t>(from + 4), a >> 17, a >> 2 & 0x7fff, a >> 1 & 1);
    return EVENT;
  }
};

// An event packet of AEDAT 4: time:64, x:16, y:16, on:8, and 3 bytes of nothing.
struct Dv {
  static constexpr int64_t UNIT = 16, MOST = 1;
  explicit Dv(const Request&) {}
  void save(int64_t*) const {}
  int64_t read(const uint8_t* data, int64_t& at, int64_t end, int64_t words, Columns out, int64_t room, Wrong&) {
    int64_t n = 0;
    while (words > 0 && at + UNIT <= end && n < room) {
      const int64_t group = words >= GROUP && at + GROUP * UNIT <= end && n + GROUP <= room ? GROUP : 1;
      if (group == GROUP) {
        uint64_t place[GROUP];
        int64_t* __restrict t = out.t + n;
        uint16_t* __restrict x = out.x + n;
        uint16_t* __restrict y = out.y + n;
        uint8_t* __restrict p = out.p + n;
        for (int64_t i = 0; i < GROUP; ++i) t[i] = get<int64_t>(data + at + i * UNIT);
        for (int64_t i = 0; i < GROUP; ++i) place[i] = get<uint64_t>(data + at + i * UNIT + 8);
        for (int64_t i = 0; i < GROUP; ++i) x[i] = static_cast<uint16_t>(place[i]);
        for (int64_t i = 0; i < GROUP; ++i) y[i] = static_cast<uint16_t>(place[i] >> 16);
        for (int64_t i = 0; i < GROUP; ++i) p[i] = (place[i] >> 32 & 0xff) != 0;
      } else {
        const uint8_t* from = data + at;
        put(out, n, get<int64_t>(from), get<uint16_t>(from + 8), get<uint16_t>(from + 10), from[12] ? 1 : 0);
      }
      n += group;
      at += group * UNIT;
      words -= group;
    }
    return n;
  }
};

// ROS messages: x:16, y:16, seconds:32, nanoseconds:32, polarity:8.
struct RosEvents {
  static constexpr int64_t UNIT = 13;
  explicit RosEvents(const Request&) {}
  void save(int64_t*) const {}
  INLINE Found one(const uint8_t* from, const Columns& out, int64_t n, Wrong&) {
    const int64_t t = int64_t{get<uint32_t>(from + 4)} * 1000000 + get<uint32_t>(from + 8) / 1000;
    put(out, n, t, get<uint16_t>(from), get<uint16_t>(from + 2), from[12] ? 1 : 0);
    return EVENT;
  }
};

// The "mono" packets of event_camera_msgs: nanoseconds after the packet's time:32, x:16, y:15, on:1.
struct RosMono {
  static constexpr int64_t UNIT = 8;
  int64_t base;  // nanoseconds, not below 0
  explicit RosMono(const Request& q) : base(q.state[1]) {}
  void save(int64_t*) const {}
  INLINE Found one(const uint8_t* from, const Columns& out, int64_t n, Wrong&) {
    const uint32_t y = get<uint16_t>(from + 6);
    const int64_t t = static_cast<int64_t>((static_cast<uint64_t>(base) + get<uint32_t>(from)) / 1000);
    put(out, n, t, get<uint16_t>(from + 4), y & 0x7fff, y >> 15);
    return EVENT;
  }
};

// A row of Prophesee's HDF5 table: x:16, y:16, on:16, time:64.
struct Table {
  static constexpr int64_t UNIT = 14;
  explicit Table(const Request&) {}
  void save(int64_t*) const {}
  INLINE Found one(const uint8_t* from, const Columns& out, int64_t n, Wrong& wrong) {
    const uint32_t p = get<uint16_t>(from + 4);
    if (p > 1) {
      wrong = {POLARITY, get<int16_t>(from + 4)};
      return FAULTY;
    }
    put(out, n, get<int64_t>(from + 6), get<uint16_t>(from), get<uint16_t>(from + 2), p);
    return EVENT;
  }
};

// Event Stream 2, DVS and ATIS: the time since the event before in the first byte, whose highest value says that more passed.
template <bool Atis> struct Es {
  static constexpr int64_t UNIT = 1, MOST = 1;
  int64_t now;
  uint32_t bottom;
  explicit Es(const Request& q) : now(q.state[1]), bottom(static_cast<uint32_t>(q.height - 1)) {}
  void save(int64_t* s) const { s[1] = now; }
  int64_t read(const uint8_t* data, int64_t& at, int64_t end, int64_t words, Columns out, int64_t room, Wrong&) {
    int64_t n = 0;
    for (; words > 0 && at < end && n < room; --words) {
      const uint32_t b = data[at];
      if (Atis ? b >= 0xFC : b >= 0xFE) {  // 0xFC and 0xFE are resets
        now += Atis ? 63 * (b & 3) : b == 0xFF ? 127 : 0;
        ++at;
        continue;
      }
      if (at + 5 > end) return n;
      now += Atis ? b >> 2 : b >> 1;
      const bool grey = Atis && (b & 1);  // the crossing of a threshold that measures light: no change of it
      if (!grey) {
        const uint32_t y = get<uint16_t>(data + at + 3);
        put(out, n++, now, get<uint16_t>(data + at + 1), bottom - y, Atis ? b >> 1 & 1 : b & 1);
      }
      at += 5;
    }
    return n;
  }
};

// The byte of the word that gives event `i` of a block.
template <class D> int64_t place(D d, const Request& q, int64_t at, int64_t i) {
  int64_t t[D::MOST + GROUP], seen = 0;
  uint16_t x[D::MOST + GROUP], y[D::MOST + GROUP];
  uint8_t p[D::MOST + GROUP];
  for (;;) {
    const int64_t from = at;
    Wrong wrong;
    seen += d.read(q.data, at, q.end, 1, {t, x, y, p}, D::MOST, wrong);
    if (seen > i || at == from) return from;
  }
}

INLINE void drop(Report& r, int kind, int64_t offset) {
  if (!r.dropped[kind]++) r.first[kind] = offset;
}

template <class D> int64_t run(const Request& q, Report& r) {
  constexpr int64_t WORDS = 2048;
  D d(q);
  int64_t n = 0, at = q.begin, last = q.state[0];
  const uint32_t right = static_cast<uint32_t>(q.width - 1), bottom = static_cast<uint32_t>(q.height - 1);
  while (at < q.end) {
    const D before = d;
    const int64_t from = at;
    const Columns out{q.out.t + n, q.out.x + n, q.out.y + n, q.out.p + n};
    Wrong wrong;
    int64_t m = d.read(q.data, at, q.end, WORDS, out, q.room - n, wrong);
    if (m) {
      uint16_t most_x = 0, most_y = 0;
      for (int64_t i = 0; i < m; ++i) most_x = out.x[i] > most_x ? out.x[i] : most_x;
      for (int64_t i = 0; i < m; ++i) most_y = out.y[i] > most_y ? out.y[i] : most_y;
      int64_t falls = out.t[0] < last;
      for (int64_t i = 1; i < m; ++i) falls |= out.t[i] < out.t[i - 1];
      if (most_x > right || most_y > bottom || falls) {
        int64_t kept = 0;
        most_x = most_y = 0;
        for (int64_t i = 0; i < m; ++i) {
          const int kind = out.x[i] > right || out.y[i] > bottom ? OUTSIDE : out.t[i] < last ? BACKWARD : NONE;
          if (kind == NONE) {
            last = out.t[i];
            most_x = out.x[i] > most_x ? out.x[i] : most_x;
            most_y = out.y[i] > most_y ? out.y[i] : most_y;
            put(out, kept++, out.t[i], out.x[i], out.y[i], out.p[i]);
            continue;
          }
          const bool first = !r.dropped[kind];
          const int64_t offset = first ? place(before, q, from, i) : 0;
          if (!q.lenient) {
            r.fault = kind;
            r.offset = r.consumed = offset;
            r.a = kind == OUTSIDE ? out.x[i] : last;
            r.b = kind == OUTSIDE ? out.y[i] : out.t[i];
            return n + kept;
          }
          drop(r, kind, offset);
        }
        m = kept;
      } else {
        last = out.t[m - 1];
      }
      if (m) {
        r.most_x = most_x > r.most_x ? most_x : r.most_x;
        r.most_y = most_y > r.most_y ? most_y : r.most_y;
      }
      n += m;
    }
    if (wrong.kind) {
      if (!q.lenient && wrong.kind != NO_TIME) {
        r.fault = wrong.kind;
        r.offset = r.consumed = at;
        r.a = wrong.what;
        return n;
      }
      drop(r, wrong.kind, at);
      at += D::UNIT;
    } else if (at == from) {
      break;  // no room, or a word that is not all there
    }
  }
  q.state[0] = last;
  d.save(q.state);
  r.consumed = at;
  return n;
}

int64_t decode(const Request& q, Report& r) {
  switch (q.layout) {
    case Layout::evt2: return run<Evt2>(q, r);
    case Layout::evt21: return run<Evt21<false>>(q, r);
    case Layout::evt21_halves: return run<Evt21<true>>(q, r);
    case Layout::evt3: return run<Evt3>(q, r);
    case Layout::dat: return run<Dat>(q, r);
    case Layout::bs2: return run<Bs2>(q, r);
    case Layout::dvs128: return run<Records<Dvs128>>(q, r);
    case Layout::davis: return run<Records<Davis>>(q, r);
    case Layout::aedat3: return run<Records<Aedat3>>(q, r);
    case Layout::dv: return run<Dv>(q, r);
    case Layout::es_dvs: return run<Es<false>>(q, r);
    case Layout::es_atis: return run<Es<true>>(q, r);
    case Layout::ros_events: return run<Records<RosEvents>>(q, r);
    case Layout::ros_mono: return run<Records<RosMono>>(q, r);
    case Layout::table: return run<Records<Table>>(q, r);
    case Layout::count: break;
  }
  return 0;
}

bool check(const Columns& in, int64_t n, int64_t last, int64_t width, int64_t height, Report& r) {
  constexpr int64_t PIECE = 2048;  // looked at column by column while it is in the cache
  uint16_t most_x = 0, most_y = 0;
  uint8_t most_p = 0;
  for (int64_t from = 0; from < n; from += PIECE) {
    const int64_t end = from + PIECE < n ? from + PIECE : n;
    for (int64_t i = from; i < end; ++i) most_x = in.x[i] > most_x ? in.x[i] : most_x;
    for (int64_t i = from; i < end; ++i) most_y = in.y[i] > most_y ? in.y[i] : most_y;
    for (int64_t i = from; i < end; ++i) most_p = in.p[i] > most_p ? in.p[i] : most_p;
    int64_t falls = in.t[from] < last;
    for (int64_t i = from + 1; i < end; ++i) falls |= in.t[i] < in.t[i - 1];
    if (falls) return false;
    last = in.t[end - 1];
  }
  r.most_x = most_x;
  r.most_y = most_y;
  return most_x < width && most_y < height && most_p <= 1;
}

INLINE uint32_t ones(uint32_t v) {  // of 16 bits
  v = v - (v >> 1 & 0x5555);
  v = (v & 0x3333) + (v >> 2 & 0x3333);
  v = (v + (v >> 4)) & 0x0f0f;
  return (v + (v >> 8)) & 0x1f;
}

int64_t count(Layout layout, const uint8_t* data, int64_t begin, int64_t end) {
  int64_t n = 0;
  if (layout == Layout::evt3) {
    constexpr int64_t PIECE = 4096;
    for (int64_t at = begin; at + 2 <= end;) {
      const int64_t words = (end - at) / 2 < PIECE ? (end - at) / 2 : PIECE;
      uint32_t sum = 0;
      for (int64_t i = 0; i < words; ++i) {
        const uint32_t w = get<uint16_t>(data + at + 2 * i), type = w >> 12;
        const uint32_t mask = type == 4 ? 0xfff : type == 5 ? 0xff : 0;
        sum += ones(w & mask) + (type == 2);
      }
      n += sum;
      at += 2 * words;
    }
  } else if (layout == Layout::evt21 || layout == Layout::evt21_halves) {
    const bool halves = layout == Layout::evt21_halves;
    for (int64_t at = begin; at + 8 <= end; at += 8) {
      const uint32_t upper = get<uint32_t>(data + at + (halves ? 0 : 4));
      if (upper >> 28 < 2) n += __builtin_popcount(get<uint32_t>(data + at + (halves ? 4 : 0)));
    }
  } else {
    constexpr int64_t units[] = {4, 8, 8, 2, 8, 5, 8, 8, 8, 16, 5, 5, 13, 8, 14};
    n = (end - begin) / units[static_cast<int>(layout)];
  }
  return n;
}

}  // namespace

extern const EventKernels events;
const EventKernels events = {decode, check, count};

}  // namespace SACCADE_ISA
}  // namespace saccade
