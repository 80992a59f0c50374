// saccade._engine: integer programs, natively. Its own module: the engine can be built, and left out, without the rest.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <chrono>
#include <stdexcept>

#include "fork_join.h"
#include "runner.h"

namespace nb = nanobind;
using namespace saccade::engine;

namespace {

using Whole = nb::ndarray<const int64_t, nb::c_contig, nb::device::cpu>;
using Real = nb::ndarray<const double, nb::c_contig, nb::device::cpu>;
using Any = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;
using Answer = nb::ndarray<double, nb::c_contig, nb::device::cpu>;

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const Kernels* k : available()) names.push_back(name_of(k));
  return names;
}

Array array_of(const Whole& given) {
  Array made;
  for (size_t i = 0; i < given.ndim(); i++) made.shape.push_back(static_cast<int64_t>(given.shape(i)));
  made.data.assign(given.data(), given.data() + given.size());
  return made;
}

// Wires and records, one after the other, then build().
struct Draft {
  std::vector<Wire> wires;
  std::vector<Record> records;

  void add(std::string kind, std::vector<int> inputs, std::vector<int64_t> numbers, std::vector<Whole> arrays, Sizes shape,
           int64_t low, int64_t high, int64_t steps) {
    Record record{std::move(kind), std::move(inputs), std::move(numbers), {}};
    for (const Whole& a : arrays) record.arrays.push_back(array_of(a));
    const int number = static_cast<int>(wires.size());
    for (int i : record.inputs) {
      if (i < 0 || i >= number) throw std::invalid_argument("an operation reads a wire that is not made before");
      wires[i].readers.push_back(number);
    }
    if (number && !builder(record.kind)) throw std::invalid_argument("the engine has no " + record.kind);
    Wire wire;
    wire.shape = std::move(shape), wire.low = low, wire.high = high, wire.steps = steps;
    wires.push_back(std::move(wire));
    records.push_back(std::move(record));
  }

  Runner* build(int64_t T, std::vector<int> reads, std::vector<Real> scales, Real offset, bool last, bool fuse, bool keep,
                bool streams, const std::string& isa, const std::string& kernel) {
    auto plan = std::make_unique<Plan>(T, fuse, keep, streams, chosen(isa));
    plan->kernel = kernel;
    plan->wires = wires;
    plan->records = records;
    std::vector<Term> terms;
    for (size_t i = 0; i < reads.size(); i++) {
      terms.push_back({reads[i], std::vector<double>(scales[i].data(), scales[i].data() + scales[i].size())});
      plan->wires.at(reads[i]).answers = true;
    }
    plan->wires[0].view = plan->allocate(plan->wires[0], narrowest(wires[0].low, wires[0].high));
    plan->buffers[0].first = -1;
    plan->buffers[0].last = 1 << 30;  // steps can be timed again on the same input
    plan->build();
    return new Runner(std::move(plan), std::move(terms), std::vector<double>(offset.data(), offset.data() + offset.size()),
                      last);
  }
};

Number number_of(nb::dlpack::dtype t) {
  const auto is = [&](nb::dlpack::dtype_code code, int bits) { return t.code == static_cast<uint8_t>(code) && t.bits == bits; };
  using C = nb::dlpack::dtype_code;
  if (is(C::UInt, 8)) return Number::u8;
  if (is(C::Int, 8)) return Number::i8;
  if (is(C::Int, 16)) return Number::i16;
  if (is(C::Int, 32)) return Number::i32;
  if (is(C::Int, 64)) return Number::i64;
  if (is(C::Float, 32)) return Number::f32;
  if (is(C::Float, 64)) return Number::f64;
  if (is(C::Bool, 8)) return Number::boolean;
  throw std::invalid_argument("numbers of another type");
}

bool run(Runner& runner, const Any& x, Answer& y, bool sequence, bool steps, int threads, Kept* kept) {
  const int64_t N = static_cast<int64_t>(x.shape(sequence ? 1 : 0));
  const Number type = number_of(x.dtype());
  const void* from = x.data();
  double* to = y.data();
  nb::gil_scoped_release released;
  return runner.run(from, type, N, sequence, steps, to, threads, kept);
}

}  // namespace

NB_MODULE(_engine, m) {
  nb::set_leak_warnings(false);
  m.def("instruction_sets", &instruction_sets);
  m.def("ceilings", [] {  // products with spikes a second, by kernel: the best of some loops
    nb::dict found;
    const Ceilings& c = chosen("")->ceilings;
    const std::pair<const char*, int64_t (*)(int64_t)> loops[] = {
        {"counts", c.counts}, {"tables", c.tables}, {"events", c.events}, {"products", c.products}};
    for (const auto& [name, loop] : loops) {
      if (!loop) continue;
      double best = 0;
      for (int round = 0; round < 50; round++) {
        const auto begin = std::chrono::steady_clock::now();
        const double products = static_cast<double>(loop(20000));
        best = std::max(best, products / std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
      }
      found[name] = best;
    }
    return found;
  });
  nb::class_<Kept>(m, "Kept").def(nb::init<>());
  nb::class_<Runner>(m, "Runner")
      .def("run",
           [](Runner& r, Any x, Answer y, bool sequence, int threads) {
             return run(r, x, y, sequence, false, threads, nullptr);
           })
      .def("stream",
           [](Runner& r, Any x, Answer y, int threads, Kept& kept) { return run(r, x, y, true, true, threads, &kept); })
      .def("steps_of_answers",
           [](Runner& r, Any x, Answer y, bool sequence, int threads) {
             return run(r, x, y, sequence, true, threads, nullptr);
           })
      .def("read", [](Runner& r, int wire, nb::ndarray<int64_t, nb::c_contig, nb::device::cpu> to) { r.read(wire, to.data()); })
      .def("known", [](Runner& r, int wire) { return r.plan().wires.at(wire).view.has_value(); })
      .def("shape", [](Runner& r, int wire) {
        Sizes shape = r.plan().wires.at(wire).shape;
        shape.insert(shape.begin(), r.plan().wires.at(wire).steps);
        return shape;
      })
      .def("steps", [](Runner& r) {
        nb::list found;
        for (const Step& s : r.plan().steps) found.append(nb::make_tuple(s.wire, s.how));
        return found;
      })
      .def("time", [](Runner& r, int64_t rounds, int threads, double quantile) {
        std::vector<double> times;
        r.time(std::max<int64_t>(rounds, 1), threads, quantile, times);
        return times;
      })
      .def_prop_ro("isa", [](Runner& r) { return name_of(r.plan().kernels); })
      .def_prop_ro("bytes", &Runner::bytes);
  nb::class_<Draft>(m, "Draft")
      .def(nb::init<>())
      .def("add", &Draft::add)
      .def("build", &Draft::build, nb::rv_policy::take_ownership);
}
