// The input's gradient of any other convolution: every position adds to the pixels it has read.
//
// Tap by tap the pixels that a region's positions have read are all different, so each tap is one product of the
// output gradient's rows whose results are added to listed pixels. A task owns some channels of one sample and adds in
// the same order whatever the number of threads.
#pragma once

#include "forward.h"

namespace {

// The padded gradient of a task's channels should stay in the second cache.
constexpr Int kGradientBytes = 768 << 10;

template <class E>
struct InputGradient {
  Geometry geometry;
  Map grad_out, grad_in;
  Bank<E> bank;
  bool depthwise;
  Int batch, regions, groups, threads;
  Int band, bands;
  Int part_columns, parts;  // channels of a group that a task owns, and tasks of a sample
  const E* grad_output;
  const int32_t* mask;
  E* grad_input;
  Scratch scratch;
  Int thread_bytes;
  Int failed = 0;

  InputGradient(const drconv_conv& c, const E* grad_output, const E* filters, const int32_t* mask,
                E* grad_input, void* memory)
      : geometry(c), grad_out(output_map(c)), grad_in(input_gradient_map(c)),
        bank(Forward::is_depthwise(c) ? depthwise_view(c, filters) : transposed_view(c, filters), c, false),
        depthwise(Forward::is_depthwise(c)), batch(c.batch), regions(c.regions), groups(depthwise ? 1 : c.groups),
        threads(c.threads), grad_output(grad_output), mask(mask), grad_input(grad_input), scratch(memory) {
    const Int columns = bank.view.columns, pixels = geometry.padded_height() * geometry.padded_width();
    const Int unit = kLanes * kTileVectors;
    const Int fitting = most(unit, kGradientBytes / 4 / pixels / unit * unit);
    part_columns = least(columns, fitting);
    if (batch * groups * ceil_div(columns, part_columns) < threads)
      part_columns = least(columns, round_up(ceil_div(columns, ceil_div(threads, batch * groups)), kLanes));
    parts = groups * ceil_div(columns, part_columns);
    const Int row_size = geometry.out_width * grad_out.channels;
    band = least(geometry.out_height, most(1, kTransposedBandBytes / 4 / row_size));
    bands = ceil_div(geometry.out_height, band);
    bank.before = scratch.take<float>(bank.size_before());
    Scratch thread(nullptr);
    ThreadMemory(thread, *this);
    thread_bytes = thread.used();
  }

  struct ThreadMemory {
    int32_t *list, *origin, *target;
    Int *start, *next, *offset;
    Int* zero_offset;
    float *rows, *gradient;

    ThreadMemory(Scratch& from, const InputGradient& f) {
      const Int positions = f.band * f.geometry.out_width;
      list = from.take<int32_t>(positions);
      origin = from.take<int32_t>(positions);
      target = from.take<int32_t>(positions);
      start = from.take<Int>(f.regions + 1);
      next = from.take<Int>(f.regions);
      offset = from.take<Int>(f.geometry.taps());
      zero_offset = from.take<Int>(1);
      rows = from.take<float>(positions_size(f.grad_out, positions));
      gradient = from.take<float>(f.geometry.padded_height() * f.geometry.padded_width() * f.part_columns);
    }
  };

  Int scratch_bytes() const { return scratch.used() + least(threads, batch * parts) * thread_bytes; }

  void run() {
    drconv_run_tasks(threads, bank.packings(), [](void* self, Int index, Int) {
      static_cast<InputGradient*>(self)->bank.pack_before(index);
    }, this);
    drconv_run_tasks(threads, batch * parts, [](void* self, Int index, Int thread) {
      static_cast<InputGradient*>(self)->task(index, thread);
    }, this);
  }

  void task(Int index, Int thread) {
    const Int sample = index / parts, part = index % parts;
    const Int per_group = parts / groups, group = part / per_group;
    const Int first = part % per_group * part_columns, width = least(part_columns, bank.view.columns - first);
    Scratch own = scratch.part(thread, thread_bytes);
    ThreadMemory memory(own, *this);
    const Int pixels = geometry.padded_height() * geometry.padded_width();
    zero(memory.gradient, pixels * width);
    geometry.tap_offsets(width, memory.offset);
    *memory.zero_offset = 0;
    for (Int top = 0; top < geometry.out_height; top += band) {
      const Int count = least(band, geometry.out_height - top), positions = count * geometry.out_width;
      const Int position = top * geometry.out_width;
      if (!bucket(mask + sample * geometry.positions() + position, positions, regions, memory.list, memory.start,
                  memory.next)) {
        __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
        return;
      }
      geometry.origins(count, memory.origin);
      for (Int i = 0; i < positions; i++) memory.target[i] = memory.origin[memory.list[i]];
      const Rows rows = load_positions(grad_out, grad_out.at(grad_output, sample), position, positions, memory.rows);
      float* gradient = memory.gradient + top * geometry.stride_h * geometry.padded_width() * width;
      for (Int j = 0; j < regions; j++) {
        const Int begin = memory.start[j], members = memory.start[j + 1] - begin;
        if (members == 0) continue;
        const Matrix filter = bank.matrix(sample, j, nullptr);
        if (depthwise)
          add_depthwise(rows, memory, begin, members, filter, first, width, gradient);
        else
          add_dense(rows, memory, begin, members, filter, group, first, width, gradient);
      }
    }
    write(memory.gradient, sample, group * bank.view.columns + first, width);
  }

  void add_dense(const Rows& rows, const ThreadMemory& memory, Int begin, Int members, const Matrix& filter,
                 Int group, Int first, Int width, float* gradient) const {
    TileCall call = {};
    call.depth = bank.view.depth;
    call.rows = rows.data + group * call.depth;
    call.row_stride = rows.stride;
    call.row_index = memory.list + begin;
    call.tap_offset = memory.zero_offset;
    call.taps = 1;
    call.depth_stride = filter.depth_stride;
    call.out_stride = width;
    call.out_index = memory.target + begin;
    call.accumulate = true;
    for (Int t = 0; t < geometry.taps(); t++) {
      call.filter = filter.data + group * filter.group_stride + t * filter.tap_stride + first;
      call.out = gradient + memory.offset[t];
      multiply_rows(kStoreTiles, call, members, width, nullptr);
    }
  }

  void add_depthwise(const Rows& rows, const ThreadMemory& memory, Int begin, Int members, const Matrix& filter,
                     Int first, Int width, float* gradient) const {
    for (Int c = 0; c < width; c += kLanes) {
      const Tail tail(width - c);
      for (Int i = begin; i < begin + members; i++) {
        const Vec grad = load(rows.data + memory.list[i] * rows.stride + first + c, tail);
        float* target = gradient + memory.target[i] * width + c;
        for (Int t = 0; t < geometry.taps(); t++) {
          float* pixel = target + memory.offset[t];
          const Vec value = load(filter.data + t * filter.tap_stride + first + c, tail);
          store(pixel, load(pixel, tail) + value * grad, tail);
        }
      }
    }
  }

  // Cuts the padding off.
  void write(const float* gradient, Int sample, Int channel, Int width) const {
    E* out = grad_input + sample * grad_in.batch_stride;
    for (Int y = 0; y < geometry.height; y++) {
      const float* row = gradient + ((y + geometry.pad_h) * geometry.padded_width() + geometry.pad_w) * width;
      const Int pixel = y * geometry.width;
      if (!grad_in.channels_last) {
        transpose(row, width, geometry.width, width, out + channel * grad_in.channel_stride + pixel,
                  grad_in.channel_stride);
        continue;
      }
      for (Int x = 0; x < geometry.width; x++)
        copy_row(row + x * width, width, out + (pixel + x) * grad_in.channels + channel);
    }
  }
};

}  // namespace
