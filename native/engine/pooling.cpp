// Sums and maxima over axes and of windows.
#include <algorithm>

#include "engine.h"
#include "spikes.h"

namespace saccade::engine {
namespace {

// Over axes, which stay with size 1: joins numbers one after the other, from `start`.
template <class F> void over_axes(Plan& plan, int wire, const char* how, int64_t start, F join) {
  const Record record = plan.records[wire];
  const View from = plan.view(record.inputs[0]);
  const Wire& w = plan.wires[wire];
  const View made = plan.allocate(w, narrowest(w.low, w.high));
  plan.wires[wire].view = made;
  Sizes inside{0}, kept = from.stride;  // offsets of what is joined
  for (int64_t axis : record.numbers) {
    kept[axis] = 0;
    Sizes more;
    for (int64_t offset : inside)
      for (int64_t i = 0; i < from.size[axis]; i++) more.push_back(offset + i * from.stride[axis]);
    inside = more;
  }
  const Nest loops = nest(w.shape, {kept, made.stride});
  const int64_t T = w.steps;
  plan.add(wire, how, loops.units(), [=, &plan](const Call& c, int64_t first, int64_t last) {
    int64_t x[CHUNK], found[CHUNK];
    loops.each(first, last, [&](const int64_t* at, int64_t n) {
      for (int64_t t = 0; t < T; t++) {
        std::fill(found, found + n, start);
        for (int64_t offset : inside) {
          plan.kernels->widen(plan.at(c, from) + (at[0] + t * from.step + offset) * bytes_of(from.type), from.type,
                              loops.step(0), n, x);
          for (int64_t i = 0; i < n; i++) found[i] = join(found[i], x[i]);
        }
        plan.kernels->narrow(found, n, plan.at(c, made) + (at[1] + t * made.step) * bytes_of(made.type), made.type,
                             loops.step(1));
      }
    });
  });
}

// Numbers: the axes.
void sum(Plan& plan, int wire) {
  if (!spikes_sum(plan, wire)) over_axes(plan, wire, "sums of places", 0, [](int64_t a, int64_t b) { return a + b; });
}

void peak(Plan& plan, int wire) {
  over_axes(plan, wire, "maxima of places", INT64_MIN, [](int64_t a, int64_t b) { return std::max(a, b); });
}

// Numbers: 1 for maxima, kernel y, x, stride y, x, padding y, x, what borders hold.
void window(Plan& plan, int wire) {
  if (spikes_window(plan, wire)) return;
  const Record record = plan.records[wire];
  const View from = plan.view(record.inputs[0]);
  const Wire& w = plan.wires[wire];
  const View made = plan.allocate(w, narrowest(w.low, w.high), order_like(from, w.shape));
  plan.wires[wire].view = made;
  const std::vector<int64_t> k = record.numbers;
  const size_t dims = w.shape.size();
  const int64_t height = w.shape[dims - 2], width = w.shape[dims - 1];
  const int64_t in_height = from.size[dims - 2], in_width = from.size[dims - 1];
  const int64_t sy = from.stride[dims - 2], sx = from.stride[dims - 1];
  // places of the map are walked one by one, the axes before them in nests
  Sizes lead(w.shape.begin(), w.shape.end() - 2), to(made.stride.begin(), made.stride.end() - 2),
      source(from.stride.begin(), from.stride.end() - 2);
  if (lead.empty()) lead = {1}, to = {1}, source = {1};
  const Nest loops = nest(lead, {to, source});
  const int64_t T = w.steps, units = loops.units();
  plan.add(wire, k[0] ? "maxima" : "sums of windows", T * height, [=, &plan](const Call& c, int64_t first, int64_t last) {
    int64_t x[CHUNK], found[CHUNK];
    for (int64_t u = first; u < last; u++) {
      const int64_t t = u / height, oy = u % height;
      for (int64_t ox = 0; ox < width; ox++)
        loops.each(0, units, [&](const int64_t* at, int64_t n) {
          bool begun = false;
          const auto take = [&](const int64_t* values, int64_t constant) {
            for (int64_t i = 0; i < n; i++) {
              const int64_t value = values ? values[i] : constant;
              found[i] = !begun ? value : k[0] ? std::max(found[i], value) : found[i] + value;
            }
            begun = true;
          };
          for (int64_t ky = 0; ky < k[1]; ky++)
            for (int64_t kx = 0; kx < k[2]; kx++) {
              const int64_t y = oy * k[3] + ky - k[5], xx = ox * k[4] + kx - k[6];
              if (y < 0 || y >= in_height || xx < 0 || xx >= in_width) {
                take(nullptr, k[7]);
                continue;
              }
              plan.kernels->widen(plan.at(c, from) + (at[1] + t * from.step + y * sy + xx * sx) * bytes_of(from.type),
                                  from.type, loops.step(1), n, x);
              take(x, 0);
            }
          plan.kernels->narrow(found, n,
                               plan.at(c, made) + (at[0] + t * made.step + oy * made.stride[dims - 2] +
                                                   ox * made.stride[dims - 1]) * bytes_of(made.type),
                               made.type, loops.step(0));
        });
    }
  });
}

const Registered known[] = {{"sum", sum}, {"peak", peak}, {"window", window}};

}  // namespace
}  // namespace saccade::engine
