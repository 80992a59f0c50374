// What each kernel needs of a layer, and its weights in the kernel's order.
#include <algorithm>
#include <cstdlib>
#include <map>
#include <numeric>

#include "convolution.h"

namespace saccade::engine {
namespace {

void set_unit(Block& b, const Layer& l) { b.scale = static_cast<int32_t>(l.scale), b.base = static_cast<int32_t>(l.base); }

// Weights [tap][channel of the padded words][padded outputs].
template <class W> std::shared_ptr<void> rows_of(const Layer& l) {
  const Block& b = l.block;
  const int64_t channels = b.words * 64;
  const std::shared_ptr<void> made = aligned(l.synapse.taps() * channels * b.padded_out * sizeof(W));
  for (int64_t tap = 0; tap < l.synapse.taps(); tap++)
    for (int64_t c = 0; c < l.synapse.in; c++)
      for (int64_t o = 0; o < b.out; o++)
        static_cast<W*>(made.get())[(tap * channels + c) * b.padded_out + o] = static_cast<W>(l.unit(o, c, tap));
  return made;
}

void events(const Plan& plan, const Layer& l, std::vector<Candidate>& to) {
  const Block& b = l.block;
  const int64_t channels = b.words * 64;
  if (b.in_width * channels > 65535 || l.synapse.taps() * channels > 65535) return;
  const EventKernel kernel = plan.kernels->events;
  const int64_t size = std::max(-l.least, l.most);
  const int bytes = l.least >= -128 && l.most <= 127 ? 1 : size <= 32767 ? 2 : 4;
  const bool bounded = l.low >= -32768 && l.high <= 32767;
  const bool small = bytes == 1 && size <= 15 && bounded;
  const int64_t most = small ? 127 / std::max<int64_t>(size, 1) : bounded ? l.synapse.taps() * channels : 32767 / 128;
  Block unit = b;
  set_unit(unit, l);
  Candidate k;
  k.name = "events";
  k.weights = bytes == 1 ? rows_of<int8_t>(l) : bytes == 2 ? rows_of<int16_t>(l) : rows_of<int32_t>(l);
  k.prepare = kernel.prepare;
  k.run = [=](Block& block, int64_t first, int64_t last) {
    block.scale = unit.scale, block.base = unit.base;
    kernel.run(block, bytes, small, most, first, last);
  };
  k.room = kernel.room(b), k.scratch = kernel.scratch(b);
  to.push_back(std::move(k));
}

void counts(const Plan& plan, const Layer& l, std::vector<Candidate>& to) {
  const Block& b = l.block;
  if (l.most - l.least != 1) return;  // weights of two values
  const CountsKernel kernel = plan.kernels->counts;
  Candidate k;
  k.name = "counts";
  k.weights = aligned(kernel.weights_room(b));
  for (int64_t o = 0; o < b.out; o++)
    for (int64_t c = 0; c < l.synapse.in; c++)
      for (int64_t tap = 0; tap < l.synapse.taps(); tap++)
        if (l.unit(o, c, tap) == l.most) kernel.set_weight(b, k.weights.get(), o, c, tap);
  k.prepare = kernel.prepare;
  const int32_t scale = static_cast<int32_t>(l.scale), base = static_cast<int32_t>(l.base + l.least * l.scale);
  k.run = [=](Block& block, int64_t first, int64_t last) {
    block.scale = scale, block.base = base;
    kernel.run(block, first, last);
  };
  k.room = kernel.room(b), k.scratch = kernel.scratch(b);
  to.push_back(std::move(k));
}

void codebook(const Plan& plan, const Layer& l, std::vector<Candidate>& to) {
  const Block& b = l.block;
  const int64_t taps = l.synapse.taps();
  if (taps < 4 || taps > 9) return;
  int64_t divisor = 0;
  for (int64_t w : l.weights) divisor = std::gcd(divisor, w);
  divisor = std::max<int64_t>(divisor, 1);
  std::map<std::vector<int64_t>, int> words;
  for (int64_t o = 0; o < b.out; o++)
    for (int64_t c = 0; c < l.synapse.in; c++) {
      std::vector<int64_t> word(taps);
      for (int64_t tap = 0; tap < taps; tap++) word[tap] = l.at(o, c, tap) / divisor;
      words.insert({word, static_cast<int>(words.size())});
      if (words.size() > 64) return;
    }
  const int64_t width = words.size() > 16 ? 64 : 16, patches = int64_t{1} << taps;
  int64_t size = 1;
  for (const auto& [word, number] : words) {
    int64_t up = 0, down = 0;
    for (int64_t w : word) (w > 0 ? up : down) += w;
    size = std::max({size, up, -down});
  }
  // sums of all channels must fit into 16 bits
  const int64_t reach = std::max(l.synapse.high, -l.synapse.low) / divisor;
  if (size > 127 || reach > 32767) return;
  Candidate k;
  k.name = "codebook";
  k.weights = aligned(patches * width + b.words * 64 * b.padded_out);
  int8_t* table = static_cast<int8_t*>(k.weights.get());
  uint8_t* index = reinterpret_cast<uint8_t*>(table + patches * width);
  for (const auto& [word, number] : words)
    for (int64_t patch = 0; patch < patches; patch++) {
      int64_t sum = 0;
      for (int64_t tap = 0; tap < taps; tap++)
        if (patch >> tap & 1) sum += word[tap];
      table[patch * width + number] = static_cast<int8_t>(sum);
    }
  std::vector<int64_t> word(taps);
  for (int64_t o = 0; o < b.out; o++)
    for (int64_t c = 0; c < l.synapse.in; c++) {
      for (int64_t tap = 0; tap < taps; tap++) word[tap] = l.at(o, c, tap) / divisor;
      index[c * b.padded_out + o] = static_cast<uint8_t>(words.at(word));
    }
  const Codebook book{table, index, static_cast<int64_t>(words.size()), 127 / size};
  const CodebookKernel kernel = plan.kernels->codebook;
  k.run = [=](Block& block, int64_t first, int64_t last) {
    block.scale = static_cast<int32_t>(divisor), block.base = 0;
    kernel.run(block, book, first, last);
  };
  k.scratch = kernel.scratch(b);
  to.push_back(std::move(k));
}

void tables(const Plan& plan, const Layer& l, std::vector<Candidate>& to) {
  const Block& b = l.block;
  const TablesKernel kernel = plan.kernels->tables;
  const bool one = l.least >= -31 && l.most <= 31;
  // two: w = 32 high + low, low from 0 to 31
  if (!kernel.run || (!one && (l.least < -32 * 32 || l.most >= 32 * 32))) return;
  const int count = one ? 1 : 2;
  const int64_t limit = int64_t{1} << (kernel.bits - 1);
  if (count > kernel.tables || l.low < -limit || l.high >= limit) return;
  const int64_t groups = b.words * 4, taps = l.synapse.taps(), out4 = (b.out + 3) / 4;
  Candidate k;
  k.name = "tables";
  k.weights = aligned(out4 * taps * groups * 256 * count);
  int8_t* at = static_cast<int8_t*>(k.weights.get());
  int64_t size = 1;  // of an entry
  for (int64_t o = 0; o < out4; o++)
    for (int64_t tap = 0; tap < taps; tap++)
      for (int64_t g = 0; g < groups; g++)
        for (int table = 0; table < count; table++)
          for (int64_t lane = 0; lane < 4; lane++, at += 64)
            for (int64_t slot = 0; slot < 4; slot++)
              for (int64_t number = 0; number < 16; number++) {
                int64_t sum = 0;
                for (int64_t bit = 0; bit < 4; bit++) {
                  const int64_t c = g * 16 + slot * 4 + bit, out = 4 * o + lane;
                  if (!(number >> bit & 1) || c >= l.synapse.in || out >= b.out) continue;
                  const int64_t w = l.unit(out, c, tap);
                  sum += one ? w : table == 0 ? w & 31 : w >> 5;
                }
                at[slot * 16 + number] = static_cast<int8_t>(sum);
                size = std::max(size, std::abs(sum));
              }
  const int64_t most = kernel.most(size);
  if (!most) return;
  k.prepare = kernel.prepare;
  const int32_t scale = static_cast<int32_t>(l.scale), base = static_cast<int32_t>(l.base);
  k.run = [=](Block& block, int64_t first, int64_t last) {
    block.scale = scale, block.base = base;
    kernel.run(block, count, most, first, last);
  };
  k.room = kernel.room(b), k.scratch = kernel.scratch(b);
  to.push_back(std::move(k));
}

const Offered all[] = {Offered(events), Offered(counts), Offered(codebook), Offered(tables)};

}  // namespace
}  // namespace saccade::engine
