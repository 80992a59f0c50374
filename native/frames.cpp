// Frames of events for Python.
#include "frames.h"

#include "bindings.h"

namespace saccade {

void bind_frames(nb::module_& m) {
  nb::class_<Recording>(m, "Recording")
      .def("__init__", [](Recording* self, uintptr_t t, uintptr_t x, uintptr_t y, uintptr_t p, uintptr_t spans, uintptr_t out,
                          uintptr_t scratch, int64_t T, int64_t H, int64_t W) {
        new (self) Recording{at<const int64_t>(t), at<const uint16_t>(x), at<const uint16_t>(y), at<const uint8_t>(p),
                             at<const int64_t>(spans), T, H, W, at<float>(out),
                             at<float>(scratch)};
      });
  m.def("count_frames", [](const Recording& r, bool once) {
    nb::gil_scoped_release release;
    return chosen_kernels().frames->count(r, once);
  });
  m.def("last_polarity_frames", [](const Recording& r) {
    nb::gil_scoped_release release;
    return chosen_kernels().frames->last_polarity(r);
  });
  m.def("voxel_frames", [](const Recording& r, int64_t bins, bool split) {
    nb::gil_scoped_release release;
    return chosen_kernels().frames->voxel(r, bins, split);
  });
  m.def("count_and_time_frames", [](const Recording& r) {
    nb::gil_scoped_release release;
    return chosen_kernels().frames->count_and_time(r);
  });
  m.def("time_surface_frames", [](const Recording& r, uintptr_t last, float tau) {
    nb::gil_scoped_release release;
    return chosen_kernels().frames->time_surface(r, at<int64_t>(last), tau);
  });
  m.def("trajectory_frames", [](const Recording& r, double alpha, double beta, uintptr_t trajectory, uintptr_t before,
                                uintptr_t counts) {
    nb::gil_scoped_release release;
    return chosen_kernels().frames->trajectory(r, {alpha, beta, at<double>(trajectory), at<uint8_t>(before), at<uint8_t>(counts)});
  });
}

}  // namespace saccade
