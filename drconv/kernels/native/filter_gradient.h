// The filters' gradient: for each region, the sum over its positions of output gradient times what was read.
//
// A task owns some rows of the filters of one sample, or of all samples where filters are shared, and passes over the
// positions in an order that does not depend on the number of threads: no atomics, and the same bits every time.
#pragma once

#include "buckets.h"
#include "filters.h"
#include "forward.h"
#include "maps.h"
#include "scratch.h"
#include "threads.h"
#include "tiles.h"

namespace {

constexpr Int kOuterRows = kTileRows[kTileVectors];

// Gradients are fetched before they are written if together they are larger than a good part of the third cache.
// Smaller ones mostly lie in the cache of the thread that wrote them last, and fetching would only take lines from the other.
constexpr Int kFarBytes = 8 << 20;

// out[i * out_stride + n] is set to, or grows by, the sum over listed positions of grads[.., i] * rows[.., n].
struct OuterCall {
  const float* grads;
  Int grad_stride;
  const int32_t* grad_index;
  const float* rows;
  Int row_stride;
  const int32_t* row_index;
  Int count;
  float* out;
  Int out_stride;
  Int last;
  bool accumulate;
  // The sums come from beyond the second cache.
  bool far;
};

template <int kRows, int kVectors, class Last>
void outer_tile(const OuterCall& call) {
  constexpr int kWhole = kVectors - 1;
  const Last end(call.last);
  Result<kRows, kVectors, Last> sums;
  DRCONV_UNROLL for (int i = 0; i < kRows; i++) {
    const float* out = call.out + i * call.out_stride;
    DRCONV_UNROLL for (int v = 0; v < kWhole; v++)
      sums.whole[i][v] = call.accumulate ? load(out + v * kLanes) : Vec{};
    sums.last[i] = call.accumulate ? end.load(out + kWhole * kLanes) : typename Last::V{};
  }
  // Stores to lines that are not in the cache would wait for them.
  if (call.far && !call.accumulate) {
    DRCONV_UNROLL for (int i = 0; i < kRows; i++) {
      DRCONV_UNROLL for (int v = 0; v < kVectors; v++)
        __builtin_prefetch(call.out + i * call.out_stride + v * kLanes, 1, 3);
    }
  }
  for (Int q = 0; q < call.count; q++) {
    const float* row = call.rows + static_cast<Int>(call.row_index[q]) * call.row_stride;
    const float* grad = call.grads + static_cast<Int>(call.grad_index[q]) * call.grad_stride;
    Vec x[kWhole > 0 ? kWhole : 1];
    DRCONV_UNROLL for (int v = 0; v < kWhole; v++) x[v] = load(row + v * kLanes);
    const typename Last::V x_last = end.load(row + kWhole * kLanes);
    DRCONV_UNROLL for (int i = 0; i < kRows; i++) {
      const float g = grad[i];
      DRCONV_UNROLL for (int v = 0; v < kWhole; v++) sums.whole[i][v] += g * x[v];
      sums.last[i] += g * x_last;
    }
  }
  DRCONV_UNROLL for (int i = 0; i < kRows; i++) {
    float* out = call.out + i * call.out_stride;
    DRCONV_UNROLL for (int v = 0; v < kWhole; v++) store(out + v * kLanes, sums.whole[i][v]);
    end.store(out + kWhole * kLanes, sums.last[i]);
  }
}

typedef void (*OuterFunction)(const OuterCall&);
typedef OuterFunction OuterTable[2][kTileVectors + 1][9];
constexpr OuterTable kOuterTiles = DRCONV_TILE_TABLE(outer_tile);

inline void outer_rows(OuterCall call, Int rows, Int columns) {
  const Int blocks = ceil_div(ceil_div(columns, kLanes), kTileVectors);
  const OuterCall whole = call;
  for (Int b = 0; b < blocks; b++) {
    const Int all = ceil_div(columns, kLanes), from = all * b / blocks, to = all * (b + 1) / blocks;
    const Int vectors = to - from;
    call.last = least(columns, to * kLanes) - (to - 1) * kLanes;
    call.rows = whole.rows + from * kLanes;
    const OuterFunction* tiles = kOuterTiles[call.last <= kHalfLanes][vectors];
    const Int parts = ceil_div(rows, kTileRows[vectors]);
    for (Int part = 0; part < parts; part++) {
      const Int first = rows * part / parts, next = rows * (part + 1) / parts;
      call.grads = whole.grads + first;
      call.out = whole.out + first * call.out_stride + from * kLanes;
      tiles[next - first](call);
    }
  }
}

template <class E>
struct FilterGradient {
  Geometry geometry;
  Map in, grad_out;
  bool depthwise;
  Int batch, regions, sets, threads;
  Int groups, group_rows, columns;  // of the filters: rows are output channels, columns input channels of a group
  Int taps;
  Int band, bands;
  Int part_rows, parts;  // filter rows that a task owns, and tasks of a set
  const E* grad_output;
  const E* input;
  const int32_t* mask;
  E* grad_filters;
  Scratch scratch;
  Int thread_bytes;
  Int failed = 0;

  FilterGradient(const drconv_conv& c, const E* grad_output, const E* input, const int32_t* mask,
                 E* grad_filters, void* memory)
      : geometry(c), in(input_map(c)), grad_out(output_map(c)), depthwise(Forward::is_depthwise(c)), batch(c.batch),
        regions(c.regions), sets(c.shared ? 1 : c.batch), threads(c.threads), groups(c.groups),
        group_rows(c.out_channels / c.groups), columns(c.in_channels / c.groups), taps(geometry.taps()),
        grad_output(grad_output), input(input), mask(mask), grad_filters(grad_filters), scratch(memory) {
    const Int row_size = geometry.padded_width() * in.channels * geometry.stride_h +
                         geometry.out_width * grad_out.channels;
    const Int unit = geometry.out_width == 1 ? 16 : 1;
    band = least(geometry.out_height, most(kTransposedBandBytes / 4 / row_size / unit * unit, unit > 1 ? 64 : 1));
    bands = ceil_div(geometry.out_height, band);
    const Int unit_rows = depthwise ? kLanes : kOuterRows, units = ceil_div(grad_out.channels, unit_rows);
    // Every part lays the maps out anew, so that there are no more than the threads need.
    const Int want = sets % threads == 0 || sets >= 4 * threads ? 1 : least(units, threads);
    part_rows = ceil_div(units, want) * unit_rows;
    parts = ceil_div(grad_out.channels, part_rows);
    Scratch thread(nullptr);
    ThreadMemory(thread, *this);
    thread_bytes = thread.used();
  }

  struct ThreadMemory {
    int32_t *list, *origin, *read;
    Int *start, *next, *offset, *touched;
    float *rows, *grads, *filters;

    ThreadMemory(Scratch& from, const FilterGradient& f) {
      const Int positions = f.band * f.geometry.out_width;
      list = from.take<int32_t>(positions);
      origin = from.take<int32_t>(positions);
      read = from.take<int32_t>(positions);
      start = from.take<Int>(f.regions + 1);
      next = from.take<Int>(f.regions);
      offset = from.take<Int>(f.taps);
      touched = from.take<Int>(f.regions);
      rows = from.take<float>(rows_size(f.in, f.geometry, f.band));
      grads = from.take<float>(positions_size(f.grad_out, positions));
      filters = from.take<float>(f.direct() ? 0 : f.regions * f.part_size());
    }
  };

  // Whether the sums can grow where the gradient is wanted; else as [region, tap, row, column] in scratch memory.
  bool direct() const { return sizeof(E) == sizeof(float) && taps == 1 && !depthwise; }
  Int part_size() const { return taps * part_rows * columns; }

  Int scratch_bytes() const { return scratch.used() + least(threads, sets * parts) * thread_bytes; }

  void run() {
    drconv_run_tasks(threads, sets * parts, [](void* self, Int index, Int thread) {
      static_cast<FilterGradient*>(self)->task(index, thread);
    }, this);
  }

  E* filter(Int set, Int region) const {
    return grad_filters + (set * regions + region) * grad_out.channels * columns * taps;
  }

  static float* sums_at(float* filter) { return filter; }
  static float* sums_at(Bfloat16*) { return nullptr; }  // never direct

  void task(Int index, Int thread) {
    const Int set = index / parts, first = index % parts * part_rows;
    const Int rows = least(part_rows, grad_out.channels - first);
    Scratch own = scratch.part(thread, thread_bytes);
    ThreadMemory memory(own, *this);
    for (Int j = 0; j < regions; j++) memory.touched[j] = 0;
    const Int from = sets == batch ? set : 0, to = sets == batch ? set + 1 : batch;
    for (Int sample = from; sample < to; sample++)
      for (Int top = 0; top < geometry.out_height; top += band)
        if (!add_band(memory, sample, top, set, first, rows)) return;
    for (Int j = 0; j < regions; j++) {
      E* out = filter(set, j) + first * columns * taps;
      if (!memory.touched[j])
        zero(out, rows * columns * taps);
      else if (!direct())
        reorder(memory.filters + j * part_size(), rows, out);
    }
  }

  bool add_band(const ThreadMemory& memory, Int sample, Int top, Int set, Int first, Int rows) {
    const Int count = least(band, geometry.out_height - top), positions = count * geometry.out_width;
    const Int position = top * geometry.out_width;
    if (!bucket(mask + sample * geometry.positions() + position, positions, regions, memory.list, memory.start,
                memory.next)) {
      __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
      return false;
    }
    geometry.origins(count, memory.origin);
    for (Int i = 0; i < positions; i++) memory.read[i] = memory.origin[memory.list[i]];
    const Rows x = load_rows(in, geometry, in.at(input, sample), top, count, memory.rows);
    const Rows g = load_positions(grad_out, grad_out.at(grad_output, sample), position, positions, memory.grads);
    geometry.tap_offsets(x.stride, memory.offset);
    for (Int j = 0; j < regions; j++) {
      const Int begin = memory.start[j], members = memory.start[j + 1] - begin;
      if (members == 0) continue;
      OuterCall call = {};
      call.grad_stride = g.stride;
      call.grad_index = memory.list + begin;
      call.row_stride = x.stride;
      call.row_index = memory.read + begin;
      call.count = members;
      call.accumulate = memory.touched[j] != 0;
      call.far = direct() && sets * regions * grad_out.channels * columns * 4 > kFarBytes;
      float* sums = direct() ? sums_at(filter(set, j) + first * columns) : memory.filters + j * part_size();
      if (depthwise)
        add_depthwise(call, x.data + first, g.data + first, memory.offset, rows, sums);
      else
        add_dense(call, x.data, g.data, memory.offset, first, rows, sums);
      memory.touched[j] = 1;
    }
    return true;
  }

  void add_dense(OuterCall call, const float* x, const float* g, const Int* offset, Int first, Int rows,
                 float* sums) const {
    call.out_stride = columns;
    for (Int t = 0; t < taps; t++) {
      for (Int row = first; row < first + rows;) {
        const Int group = row / group_rows, stop = least(first + rows, (group + 1) * group_rows);
        call.grads = g + row;
        call.rows = x + offset[t] + group * columns;
        call.out = sums + (t * part_rows + row - first) * columns;
        outer_rows(call, stop - row, columns);
        row = stop;
      }
    }
  }

  void add_depthwise(const OuterCall& call, const float* x, const float* g, const Int* offset, Int channels,
                     float* sums) const {
    // Three taps share the loads of the gradient, and their sums hide each other's latency.
    for (Int c = 0; c < channels; c += kLanes) {
      const Tail tail(channels - c);
      for (Int t = 0; t < taps; t += 3) {
        const Int some = least(3, taps - t);
        Vec sum[3] = {};
        const Int at[3] = {offset[t], offset[t + (some > 1 ? 1 : 0)], offset[t + (some > 2 ? 2 : 0)]};
        for (Int q = 0; q < call.count; q++) {
          const float* row = x + static_cast<Int>(call.row_index[q]) * call.row_stride + c;
          const Vec grad = load(g + static_cast<Int>(call.grad_index[q]) * call.grad_stride + c, tail);
          DRCONV_UNROLL for (int i = 0; i < 3; i++) sum[i] += grad * load(row + at[i], tail);
        }
        for (Int i = 0; i < some; i++) {
          float* out = sums + (t + i) * part_rows + c;
          store(out, call.accumulate ? load(out, tail) + sum[i] : sum[i], tail);
        }
      }
    }
  }

  // [tap, row, column] -> [row, column, tap].
  void reorder(const float* sums, Int rows, E* out) const {
    if (taps == 1) return copy_row(sums, rows * columns, out);
    for (Int row = 0; row < rows; row++)
      transpose(sums + row * columns, part_rows * columns, taps, columns, out + row * columns * taps, taps);
  }
};

}  // namespace
