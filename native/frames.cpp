// Frames of events for Python.
#include "frames.h"

#include "bindings.h"

namespace saccade {

void bind_frames(nb::module_& m) {
  nb::class_<Recording>(m, "Recording")
      .def("__init__", [](Recording* self, uintptr_t t, uintptr_t x, uintptr_t y, uintptr_t p, uintptr_t spans, uintptr_t out,
                          int64_t T, int64_t H, int64_t W) {
        new (self) Recording{at<const int64_t>(t), at<const uint16_t>(x), at<const uint16_t>(y), at<const uint8_t>(p),
                             at<const int64_t>(spans), T, H, W, at<float>(out)};
      });
  m.def("count_frames", &count_frames, nb::call_guard<nb::gil_scoped_release>());
  m.def("last_polarity_frames", &last_polarity_frames, nb::call_guard<nb::gil_scoped_release>());
  m.def("voxel_frames", &voxel_frames, nb::call_guard<nb::gil_scoped_release>());
  m.def("count_and_time_frames", &count_and_time_frames, nb::call_guard<nb::gil_scoped_release>());
  m.def("age_frames", [](const Recording& r, uintptr_t last) {
    nb::gil_scoped_release release;
    return age_frames(r, at<int64_t>(last));
  });
  m.def("trajectory_frames", [](const Recording& r, double alpha, double beta, bool first, uintptr_t trajectory, uintptr_t seen,
                                uintptr_t counts) {
    nb::gil_scoped_release release;
    return trajectory_frames(r, {alpha, beta, first, at<double>(trajectory), at<uint8_t>(seen), at<uint32_t>(counts)});
  });
}

}  // namespace saccade
