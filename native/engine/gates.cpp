// What gates over a whole sequence are made of: rectified numbers, sigmoids, all steps as an axis and back.
#include <algorithm>
#include <stdexcept>

#include "engine.h"

namespace saccade::engine {
namespace {

// A function of each number by itself.
template <class F> void each(Plan& plan, int wire, const char* how, F f) {
  const View from = plan.view(plan.records[wire].inputs[0]);
  const Wire& w = plan.wires[wire];
  const View made = plan.allocate(w, narrowest(w.low, w.high), order_like(from, w.shape));
  plan.wires[wire].view = made;
  const Nest loops = nest(w.shape, {made.stride, from.stride});
  const int64_t T = w.steps;
  plan.add(wire, how, loops.units(), [=, &plan](const Call& c, int64_t first, int64_t last) {
    int64_t x[CHUNK];
    loops.each(first, last, [&](const int64_t* at, int64_t n) {
      for (int64_t t = 0; t < T; t++) {
        plan.kernels->widen(plan.at(c, from) + (at[1] + t * from.step) * bytes_of(from.type), from.type, loops.step(1), n, x);
        for (int64_t i = 0; i < n; i++) x[i] = f(x[i]);
        plan.kernels->narrow(x, n, plan.at(c, made) + (at[0] + t * made.step) * bytes_of(made.type), made.type, loops.step(0));
      }
    });
  });
}

void relu(Plan& plan, int wire) {
  each(plan, wire, "relu", [](int64_t x) { return std::max<int64_t>(x, 0); });
}

// Numbers: bits of an input within a piece of the table, bits of 1. Arrays: the table, from 0 to where it is 1.
void sigmoid(Plan& plan, int wire) {
  const Record record = plan.records[wire];
  const auto table = std::make_shared<std::vector<int64_t>>(record.arrays[0].data);
  const int64_t bits = record.numbers[0], one = int64_t{1} << record.numbers[1];
  const int64_t end = (static_cast<int64_t>(table->size() - 1) << bits) - 1;
  each(plan, wire, "sigmoid", [=](int64_t x) {
    const int64_t size = x < -end ? end : std::min(x < 0 ? -x : x, end), piece = size >> bits;
    const int64_t rest = size & ((int64_t{1} << bits) - 1), left = (*table)[piece];
    const int64_t y = left + ((((*table)[piece + 1] - left) * rest + (int64_t{1} << (bits - 1))) >> bits);
    return x < 0 ? one - y : y;
  });
}

// [T, ...] as one step [1, T, ...].
void collect(Plan& plan, int wire) {
  if (plan.streams) throw std::invalid_argument("a gate looks at all steps of a sequence, so the program cannot be streamed");
  const View from = plan.view(plan.records[wire].inputs[0]);
  if (plan.wires[wire].shape[0] != plan.T) throw std::invalid_argument("a gate over another number of steps");
  View to = from;
  to.size.insert(to.size.begin(), plan.wires[wire].shape[0]);
  to.stride.insert(to.stride.begin(), from.step);
  to.step = 0;
  plan.wires[wire].view = to;
}

// The other way round: to each step its part.
void deal(Plan& plan, int wire) {
  const View from = plan.view(plan.records[wire].inputs[0]);
  if (from.size[0] != plan.T) throw std::invalid_argument("a gate over another number of steps");
  View to = from;
  to.step = from.stride[0];
  to.size.erase(to.size.begin());
  to.stride.erase(to.stride.begin());
  plan.wires[wire].view = to;
}

const Registered known[] = {{"relu", relu}, {"sigmoid", sigmoid}, {"collect", collect}, {"deal", deal}};

}  // namespace
}  // namespace saccade::engine
