// A program from a file: numbers of 64 bits one after the other, as test_emulated.py writes what it would have given the
// engine.
#include <cstring>
#include <fstream>
#include <stdexcept>

#include "check.h"

using namespace saccade::engine;

void add(Given& to, std::string kind, std::vector<int> inputs, std::vector<int64_t> numbers, std::vector<Array> arrays,
         Sizes shape,
         int64_t low, int64_t high, int64_t steps) {
  for (int i : inputs) to.wires[i].readers.push_back(static_cast<int>(to.wires.size()));
  Wire wire;
  wire.shape = std::move(shape), wire.low = low, wire.high = high, wire.steps = steps;
  to.wires.push_back(std::move(wire));
  to.records.push_back({std::move(kind), std::move(inputs), std::move(numbers), std::move(arrays)});
}

namespace {

struct Numbers64 {
  std::ifstream file;
  int64_t one() {
    int64_t x;
    if (!file.read(reinterpret_cast<char*>(&x), 8)) throw std::runtime_error("the file ends too early");
    return x;
  }
  std::vector<int64_t> list() {  // how many, then they
    std::vector<int64_t> found(one());
    for (int64_t& x : found) x = one();
    return found;
  }
  std::vector<double> reals() {
    std::vector<double> found;
    for (int64_t x : list()) found.emplace_back(), std::memcpy(&found.back(), &x, 8);
    return found;
  }
};

}  // namespace

Given read_program(const char* path) {
  Numbers64 from{std::ifstream(path, std::ios::binary)};
  Given g;
  g.name = path;
  g.T = from.one(), g.N = from.one(), g.sequence = from.one(), g.last = from.one();
  for (int64_t left = from.one(); left; left--) {
    std::string kind;
    for (int64_t letter : from.list()) kind += static_cast<char>(letter);
    const std::vector<int64_t> inputs = from.list(), numbers = from.list();
    std::vector<Array> arrays;
    for (int64_t n = from.one(); n; n--) {
      Array a;
      a.shape = from.list(), a.data = from.list();
      arrays.push_back(std::move(a));
    }
    const Sizes shape = from.list();
    const int64_t low = from.one(), high = from.one(), steps = from.one();
    add(g, kind, std::vector<int>(inputs.begin(), inputs.end()), numbers, std::move(arrays), shape, low, high, steps);
  }
  for (int64_t wire : from.list()) g.terms.push_back({static_cast<int>(wire), from.reals()});
  g.offset = from.reals();
  for (int64_t x : from.list()) g.x.push_back(static_cast<uint8_t>(x));
  g.expected = from.reals();
  return g;
}
