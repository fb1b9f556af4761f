// The guided feature's products: what every region's filter would give at every position, times the output gradient.
//
// Dense tiles in natural order of the positions; a result never leaves its registers but as one number per position,
// so that memory grows with M * P and not with M * O * P.
#pragma once

#include "forward.h"

namespace {

template <class E>
struct Products {
  Geometry geometry;
  bool exchanged;  // <x, W^T grad> instead of <grad, W x>, where the transpose needs no packing
  Map in, grad_out;
  Bank<E> bank;
  bool depthwise;
  Int batch, regions, groups, threads;
  Int band, bands;
  const E* input;
  const E* grad_output;
  float* products;
  Scratch scratch;
  Int thread_bytes;

  Products(const drconv_conv& c, const E* grad_output, const E* input, const E* filters, float* products,
           void* memory)
      : geometry(c), exchanged(may_exchange(c, filters)), in(input_map(c)), grad_out(output_map(c)),
        bank(FilterViewOf<E>(), c, false), depthwise(Forward::is_depthwise(c)), batch(c.batch), regions(c.regions),
        groups(depthwise ? 1 : c.groups), threads(c.threads), input(input), grad_output(grad_output),
        products(products), scratch(memory) {
    const Int row_size = geometry.padded_width() * in.channels * geometry.stride_h +
                         geometry.out_width * grad_out.channels;
    const bool flat = geometry.out_width == 1 && geometry.taps() == 1;
    const Int most_rows = most(kTransposedBandBytes / 4 / row_size, flat ? 64 : 1);
    Int want = ceil_div(geometry.out_height, most_rows);
    if (threads > 1 && batch * want < 2 * threads) want = most(want, ceil_div(2 * threads, batch));
    want = least(want, geometry.out_height);
    // Not rounded to whole vectors of pixels, as elsewhere: a band costs M times its convolution, so that uneven bands
    // leave threads idle for longer than transposing parts of vectors takes.
    band = ceil_div(geometry.out_height, want);
    bands = ceil_div(geometry.out_height, band);
    const FilterViewOf<E> view = depthwise   ? depthwise_view(c, filters)
                            : exchanged ? transposed_view(c, filters)
                                        : forward_view(c, filters);
    bank = Bank<E>(view, c, bands == 1 && !depthwise);
    bank.before = scratch.take<float>(bank.size_before());
    Scratch thread(nullptr);
    ThreadMemory(thread, *this);
    thread_bytes = thread.used();
  }

  static bool may_exchange(const drconv_conv& c, const E* filters) {
    return Geometry::is_pointwise(c) && !Forward::is_depthwise(c) && !forward_view(c, filters).is_direct() &&
           transposed_view(c, filters).is_direct();
  }

  struct ThreadMemory {
    int32_t *origin, *list;
    Int* offset;
    float *rows, *grads, *filter;

    ThreadMemory(Scratch& from, const Products& f) {
      const Int positions = f.band * f.geometry.out_width;
      origin = from.take<int32_t>(positions);
      list = from.take<int32_t>(positions);
      offset = from.take<Int>(f.geometry.taps());
      rows = from.take<float>(rows_size(f.in, f.geometry, f.band));
      grads = from.take<float>(positions_size(f.grad_out, positions));
      filter = from.take<float>(f.bank.size_as_needed());
    }
  };

  Int scratch_bytes() const { return scratch.used() + least(threads, batch * bands) * thread_bytes; }

  void run() {
    drconv_run_tasks(threads, bank.packings(), [](void* self, Int index, Int) {
      static_cast<Products*>(self)->bank.pack_before(index);
    }, this);
    drconv_run_tasks(threads, batch * bands, [](void* self, Int index, Int thread) {
      static_cast<Products*>(self)->task(index, thread);
    }, this);
  }

  void task(Int index, Int thread) {
    const Int sample = index / bands, top = index % bands * band;
    const Int count = least(band, geometry.out_height - top), positions = count * geometry.out_width;
    const Int position = top * geometry.out_width;
    Scratch own = scratch.part(thread, thread_bytes);
    ThreadMemory memory(own, *this);
    geometry.origins(count, memory.origin);
    for (Int i = 0; i < positions; i++) memory.list[i] = static_cast<int32_t>(i);
    const Rows x = load_rows(in, geometry, in.at(input, sample), top, count, memory.rows);
    const Rows g = load_positions(grad_out, grad_out.at(grad_output, sample), position, positions, memory.grads);
    geometry.tap_offsets(exchanged ? g.stride : x.stride, memory.offset);
    float* out = products + sample * regions * geometry.positions() + position;
    if (depthwise) {
      for (Int j = 0; j < regions; j += kTogether) depthwise_regions(memory, sample, j, positions, x, g, out);
      return;
    }
    TileCall call = {};
    call.row_stride = exchanged ? g.stride : x.stride;
    call.row_index = memory.origin;
    call.tap_offset = memory.offset;
    call.taps = geometry.taps();
    call.depth = bank.view.depth;
    call.out_stride = exchanged ? x.stride : g.stride;
    call.out_index = memory.list;
    for (Int j = 0; j < regions; j++) {
      const Matrix filter = bank.matrix(sample, j, memory.filter);
      call.tap_stride = filter.tap_stride;
      call.depth_stride = filter.depth_stride;
      call.dots = out + j * geometry.positions();
      for (Int group = 0; group < groups; group++) {
        call.rows = (exchanged ? g.data : x.data) + group * call.depth;
        call.filter = filter.data + group * filter.group_stride;
        // Only read.
        call.out = const_cast<float*>(exchanged ? x.data : g.data) + group * bank.view.columns;
        call.accumulate = group > 0;
        multiply_rows(kDotTiles, call, positions, bank.view.columns, groups == 1 ? next_filter(index, j) : nullptr);
      }
    }
  }

  // What is needed after a region of a task: the next region's filter, or the first of the next sample.
  const float* next_filter(Int index, Int region) const {
    const Int sample = index / bands;
    if (region + 1 < regions) return bank.upcoming(sample, region + 1);
    return index % bands == bands - 1 && sample + 1 < batch ? bank.upcoming(sample + 1, 0) : nullptr;
  }

  static constexpr Int kTogether = 4;  // regions that share the loads of the maps

  void depthwise_regions(const ThreadMemory& memory, Int sample, Int first, Int positions, const Rows& x,
                         const Rows& g, float* out) const {
    const float* filter[kTogether];
    Int tap_stride = 0;
    for (Int q = 0; q < kTogether; q++) {
      const Matrix matrix = bank.matrix(sample, least(first + q, regions - 1), memory.filter);
      filter[q] = matrix.data;
      tap_stride = matrix.tap_stride;
    }
    for (Int i = 0; i < positions; i++) {
      const float* row = x.data + memory.origin[i] * x.stride;
      const float* grads = g.data + i * g.stride;
      Vec total[kTogether] = {};
      for (Int c = 0; c < in.channels; c += kLanes) {
        const Tail tail(in.channels - c);
        const Vec grad = load(grads + c, tail);
        for (Int t = 0; t < geometry.taps(); t++) {
          const Vec seen = grad * load(row + memory.offset[t] + c, tail);
          DRCONV_UNROLL for (Int q = 0; q < kTogether; q++)
            total[q] += seen * load(filter[q] + t * tap_stride + c, tail);
        }
      }
      for (Int q = 0; q < least(kTogether, regions - first); q++)
        out[(first + q) * geometry.positions() + i] = sum(total[q]);
    }
  }
};

}  // namespace
