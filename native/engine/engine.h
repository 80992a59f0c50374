// The engine of integer programs: records become steps over one arena of memory, planned once; a run allocates nothing.
// Programs are those of saccade/deploy/program.py, which says what each operation means.
#pragma once
#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "isa.h"

namespace saccade::engine {

using Sizes = std::vector<int64_t>;

struct Array {  // of a record: whole numbers, row by row
  Sizes shape;
  std::vector<int64_t> data;
};

struct Record {
  std::string kind;
  std::vector<int> inputs;
  std::vector<int64_t> numbers;
  std::vector<Array> arrays;
};

// A tensor of whole numbers in the arena: `size` of a step of a sample, strides in elements. What stands still has step 0.
struct View {
  Type type = Type::i64;
  int buffer = -1;
  int64_t start = 0, step = 0;
  Sizes size, stride;
};

// Spikes as bits, channels innermost: [T][height + 2 border][width + 2 border][words of 64 channels]. What is outside the map
// or the channels is 0.
struct Bits {
  int buffer = -1;
  int64_t channels, height, width, border, words;
  int64_t row() const { return (width + 2 * border) * words; }
  int64_t plane() const { return (height + 2 * border) * row(); }
  int64_t inside() const { return border * row() + border * words; }
};

// Bytes with whole words of channels innermost, and zeros around the map and in a row below it: `start` is the first place of the
// map.
struct Laid {
  int buffer;
  int64_t start, row, place, step, border;
};

struct Wire {
  Sizes shape;
  int64_t low, high;
  int64_t steps;  // T, or 1: it stands still
  std::optional<View> view;
  std::optional<Bits> bits;
  std::optional<Laid> laid;
  std::vector<int> readers;  // numbers of the wires made of it
  bool answers = false;      // read by the answer
};

// What a step works on: one sample.
struct Call {
  char* arena;
  char* state;
  int64_t done;  // steps that were run before, in a stream
  char* scratch;  // of this thread
};

struct Step {
  int wire;
  std::string how;
  int64_t units;  // pieces of work, which threads share
  std::function<void(const Call&, int64_t first, int64_t last)> run;
  std::function<void(const Call&)> before;  // what has to be known before pieces are shared; may be empty
  int64_t pieces = 8;                       // at most, when threads share
};

struct Buffer {
  int64_t bytes;
  int first, last;  // steps between which it is needed
  bool kept;        // never shared: its border of zeros is written once
  int64_t offset = 0;
};

struct Term {
  int wire;
  std::vector<double> scale;  // one number, or as many as the answer has
};

class Plan {
 public:
  Plan(int64_t T, bool fuse, bool keep, bool streams, const Kernels* kernels)
      : T(T), fuse(fuse), keep(keep), streams(streams), kernels(kernels) {}

  const int64_t T;
  const bool fuse, keep, streams;
  const Kernels* const kernels;
  std::string kernel;  // for layers of spikes, where they have it; "": the fastest
  std::vector<Wire> wires;
  std::vector<Record> records;  // records[i] makes wire i; the first is the input
  std::vector<Step> steps;
  std::vector<Buffer> buffers;
  std::vector<bool> skipped;  // wires that are made within others
  int64_t arena_bytes = 0, state_bytes = 0, scratch_bytes = 1 << 16;

  void build();
  // What records are made of
  View allocate(const Wire& wire, Type type, const Sizes& order = {});  // contiguous, axes in an order (outermost first)
  // A map with channels innermost; within what it will be joined to, if that is so alone and no copy is needed then.
  View allocate_map(int wire, Type type);
  std::optional<View> joined(int wire) const;  // where parts of a join lie already, if some do
  int buffer(int64_t bytes, bool kept = false);
  int64_t state(int64_t bytes);
  void scratch(int64_t bytes);
  const View& view(int wire);  // of a wire; spikes are unpacked where they must be
  const View& channels_last(int wire, int axis);
  const Bits& bits(int wire, int64_t border);
  // Room for bytes [height][width][channels] of all steps, and those of a wire: its own, or copied there.
  Laid lay(int64_t steps, int64_t height, int64_t width, int64_t channels, int64_t border);
  const Laid& laid(int wire);
  int64_t border(int wire) const;  // that the layers which read a wire need
  Step& add(int wire, std::string how, int64_t units, std::function<void(const Call&, int64_t, int64_t)> run);
  int only_reader(int wire) const;  // the record that alone reads a wire; -1 if there are several or the answer is read off it
  int64_t offset(const Call&) const;
  template <class T = char> T* at(const Call& c, int buffer) const {
    return reinterpret_cast<T*>(c.arena + buffers[buffer].offset);
  }
  char* at(const Call& c, const View& v) const { return c.arena + buffers[v.buffer].offset + v.start * bytes_of(v.type); }
  void used(int buffer) { buffers[buffer].last = std::max(buffers[buffer].last, static_cast<int>(steps.size())); }

 private:
  std::vector<std::pair<std::pair<int, int>, View>> lasts_;  // copies with channels innermost
  std::vector<std::pair<int, View>> joined_;                 // joins whose parts are made in place
};

// A builder for each kind of record, registered by its file.
using Build = void (*)(Plan&, int wire);
struct Registered {
  Registered(const char* kind, Build build);
};
Build builder(const std::string& kind);  // nullptr: none

// Loops over the places of some tensors of one shape, `outer` runs of `inner` places.
struct Nest {
  static constexpr size_t MOST = 128;  // tensors
  int64_t inner = 1, outer = 1, chunk = 1, chunks = 1;
  Sizes size;                   // of the outer axes
  std::vector<Sizes> strides;   // of each tensor: outer axes, then the inner one
  int64_t units() const { return outer * chunks; }
  // Calls f(offsets, n): where the n places of a piece begin in each tensor.
  template <class F> void each(int64_t first, int64_t last, F&& f) const {
    int64_t at[MOST];
    for (int64_t u = first; u < last; u++) {
      int64_t rest = u / chunks;
      const int64_t start = u % chunks * chunk;
      for (size_t k = 0; k < strides.size(); k++) at[k] = start * strides[k].back();
      for (int64_t d = static_cast<int64_t>(size.size()) - 1; d >= 0; d--) {
        const int64_t i = rest % size[d];
        rest /= size[d];
        for (size_t k = 0; k < strides.size(); k++) at[k] += i * strides[k][d];
      }
      f(at, inner - start < chunk ? inner - start : chunk);
    }
  }
  int64_t step(int k) const { return strides[k].back(); }
};
constexpr int64_t CHUNK = 256;  // places that a piece has at most
Nest nest(const Sizes& shape, std::vector<Sizes> strides);  // in the order of the first tensor's places

// Strides with which a smaller tensor (contiguous, or with strides of its own) is repeated to a shape.
Sizes repeated(const Sizes& size, const Sizes& stride, const Sizes& shape);
Sizes contiguous(const Sizes& size);
int64_t product(const Sizes& size);

// An array among the fields of a record, as a tensor of nests.
struct Numbers {
  std::shared_ptr<std::vector<int64_t>> data;
  Sizes stride;
  int64_t level = 0;  // between thresholds of levels
};
Numbers numbers(const Array& array, const Sizes& shape, bool levels = false);

// The order of the axes of a wire that makes it like another one: outermost first.
Sizes order_like(const View& view, const Sizes& shape);

}  // namespace saccade::engine
