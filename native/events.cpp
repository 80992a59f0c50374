// Decoding of event recordings for Python. The caller (saccade/events/decoding.py) keeps bytes and columns alive and says how many
// there are; what a file holds is checked in the kernels.
#include "events.h"

#include <stdexcept>

#include "bindings.h"

namespace saccade {

namespace {

Layout layout_of(int number) {
  if (number < 0 || number >= static_cast<int>(Layout::count)) throw std::invalid_argument("no such layout of events");
  return static_cast<Layout>(number);
}

// Addresses: bytes, columns t, x, y, p, state [STATE], report [7 + 2 * FAULTS]. Returns the number of events.
int64_t decode(int layout, uintptr_t data, int64_t begin, int64_t end, uintptr_t t, uintptr_t x, uintptr_t y, uintptr_t p,
               int64_t room, uintptr_t state, int64_t width, int64_t height, bool lenient, uintptr_t report) {
  const Request request{layout_of(layout), at<const uint8_t>(data), begin, end,
                        {at<int64_t>(t), at<uint16_t>(x), at<uint16_t>(y), at<uint8_t>(p)},
                        room, at<int64_t>(state), width, height, lenient};
  Report found;
  nb::gil_scoped_release release;
  const int64_t events = chosen_kernels().events->decode(request, found);
  int64_t* to = at<int64_t>(report);
  for (int64_t value : {found.consumed, found.fault, found.offset, found.a, found.b, found.most_x, found.most_y}) *to++ = value;
  for (int64_t value : found.dropped) *to++ = value;
  for (int64_t value : found.first) *to++ = value;
  return events;
}

// The most of x and y, or nothing where some event is wrong.
nb::object check(uintptr_t t, uintptr_t x, uintptr_t y, uintptr_t p, int64_t n, int64_t last, int64_t width, int64_t height) {
  const Columns columns{at<int64_t>(t), at<uint16_t>(x), at<uint16_t>(y), at<uint8_t>(p)};
  Report found;
  bool right;
  {
    nb::gil_scoped_release release;
    right = chosen_kernels().events->check(columns, n, last, width, height, found);
  }
  return right ? nb::object(nb::make_tuple(found.most_x, found.most_y)) : nb::none();
}

int64_t count(int layout, uintptr_t data, int64_t begin, int64_t end) {
  nb::gil_scoped_release release;
  return chosen_kernels().events->count(layout_of(layout), at<const uint8_t>(data), begin, end);
}

}  // namespace

void bind_events(nb::module_& m) {
  m.def("events_decode", &decode);
  m.def("events_count", &count);
  m.def("events_check", &check);
}

}  // namespace saccade
