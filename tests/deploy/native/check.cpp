// Runs programs with the kernels of every instruction set of this machine and compares all that they make with the portable
// ones.
//
//     check random FIRST COUNT     layers made at random
//     check program FILE...        programs, with the answers that an interpreter gave
//     check layer SET KERNEL IN OUT SIDE BITS HIGH PERCENT     one convolution once, for whoever counts its instructions
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <stdexcept>

#include "check.h"
#include "runner.h"

using namespace saccade::engine;

namespace {

struct Found {
  std::map<int, std::vector<int64_t>> wires;  // of the last sample
  std::vector<double> answers;
  std::set<std::string> steps;
};

Found run(const Given& g, const Kernels* kernels, const std::string& kernel, bool fuse, bool keep) {
  auto plan = std::make_unique<Plan>(g.T, fuse, keep, false, kernels);
  plan->kernel = kernel, plan->wires = g.wires, plan->records = g.records;
  for (const Term& term : g.terms) plan->wires[term.wire].answers = true;
  plan->wires[0].view = plan->allocate(plan->wires[0], narrowest(g.wires[0].low, g.wires[0].high));
  plan->buffers[0].first = -1, plan->buffers[0].last = 1 << 30;
  plan->build();
  Runner runner(std::move(plan), g.terms, g.offset, g.last);
  Found found;
  found.answers.resize(g.N * runner.outputs());
  if (!runner.run(g.x.data(), Number::u8, g.N, g.sequence, false, found.answers.data(), 1))
    throw std::runtime_error("the input was not taken");
  for (const Step& step : runner.plan().steps) found.steps.insert(step.how);
  for (size_t i = 0; keep && i < g.wires.size(); i++)
    if (runner.plan().wires[i].view) {
      std::vector<int64_t>& to = found.wires[static_cast<int>(i)];
      to.resize(g.wires[i].steps * product(g.wires[i].shape));
      runner.read(static_cast<int>(i), to.data());
    }
  return found;
}

int differences = 0;
std::map<std::string, int> ran;  // steps with the kernels of a set, how often

template <class T> void same(const std::vector<T>& a, const std::vector<T>& b, const std::string& what) {
  int64_t wrong = a.size() != b.size();
  for (size_t i = 0; i < a.size() && i < b.size(); i++) wrong += a[i] != b[i];
  if (!wrong) return;
  differences++;
  std::printf("%s: %lld of %lld differ\n", what.c_str(), static_cast<long long>(wrong), static_cast<long long>(a.size()));
}

void compare(const Given& g) {
  const std::vector<const Kernels*> sets = available();
  for (const bool keep : {true, false}) {
    const Found expected = run(g, sets[0], "events", true, keep);
    if (!g.expected.empty()) same(g.expected, expected.answers, g.name + ", portable");
    for (const char* kernel : {"events", "counts", "tables", "codebook", "dense", "winograd"})
      for (const Kernels* set : sets) {
        if (set == sets[0] && !std::strcmp(kernel, "events")) continue;
        const Found found = run(g, set, kernel, true, keep);
        const std::string what = name_of(set) + " " + kernel;
        for (const std::string& how : found.steps) ran[name_of(set) + ", " + how]++;
        same(expected.answers, found.answers, g.name + ", " + what + ", answers");
        for (const auto& [wire, value] : found.wires) {
          const auto known = expected.wires.find(wire);
          if (known != expected.wires.end())
            same(known->second, value,
                 g.name + ", " + what + ", wire " + std::to_string(wire) + " (" + g.records[wire].kind + ")");
        }
      }
  }
}

}  // namespace

int main(int count, char** given) {
  if (count < 3) return std::fprintf(stderr, "check random FIRST COUNT | check program FILE...\n"), 2;
  try {
    if (!std::strcmp(given[1], "random")) {
      const int64_t first = std::atoll(given[2]), many = count > 3 ? std::atoll(given[3]) : 1;
      for (int64_t i = first; i < first + many; i++) compare(random_layer(static_cast<uint64_t>(i)));
    } else if (!std::strcmp(given[1], "layer") && count == 10) {
      const auto number = [&](int i) { return std::atoll(given[i]); };
      const Given g = sized_layer(number(4), number(5), number(6), number(7), number(8), number(9));
      for (const std::string& how : run(g, chosen(given[2]), given[3], true, false).steps) std::printf("%s\n", how.c_str());
      return 0;
    } else {
      for (int i = 2; i < count; i++) compare(read_program(given[i]));
    }
  } catch (const std::exception& error) {
    return std::fprintf(stderr, "%s\n", error.what()), 2;
  }
  for (const auto& [what, times] : ran) std::printf("%s: %d\n", what.c_str(), times);
  std::printf("%d differences\n", differences);
  return differences != 0;
}
